//! What stages write, beside the library's own; and what they say about files they can't use.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sector::{payload, Sector};
use filecoin_proofs::{add_piece, DefaultPieceHasher};
use filecoin_proofs_api::RegisteredSealProof::{
    self, StackedDrg2KiBV1_1, StackedDrg512MiBV1_1, StackedDrg8MiBV1_1,
};
use filecoin_proofs_api::UnpaddedBytesAmount;
use proofs::control::Cancelled;
use proofs::failure::one_line;
use proofs::tasks::{PieceFile, PieceSource};
use proofs::Control;
use storage_proofs_core::merkle::{create_base_merkle_tree, BinaryMerkleTree};
use storage_proofs_core::util::NODE_SIZE;

const TREE_D: &str = "sc-02-data-tree-d.dat";

fn add_pieces_error(sector: &Sector, pieces: Vec<PieceSource>) -> String {
    let task = sector.add_pieces_task(pieces);
    one_line(&proofs::add_pieces(&task, &mut Control::none()).unwrap_err())
}

/// The tree_d that the library builds over a staged file.
fn library_tree_d(staged: &Path) -> Vec<u8> {
    let data = fs::read(staged).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = merkle_config(dir.path());
    create_base_merkle_tree::<BinaryMerkleTree<DefaultPieceHasher>>(
        Some(config),
        data.len() / NODE_SIZE,
        &data,
    )
    .unwrap();
    fs::read(dir.path().join(TREE_D)).unwrap()
}

fn merkle_config(dir: &Path) -> filecoin_proofs::types::StoreConfig {
    filecoin_proofs::types::StoreConfig::new(dir, "tree-d".to_owned(), 0)
}

fn same_bytes_as_the_library(proof: RegisteredSealProof, payload_size: usize) {
    let sector = Sector::new(proof);
    let piece_size = sector.size() / 2 / 128 * 127;
    let data = payload(payload_size, 11);
    let infos = sector.add_pieces(vec![sector.piece("deal", &data, piece_size)]);

    let mut filled = data;
    filled.resize(usize::try_from(piece_size).unwrap(), 0);
    let mut staged = Vec::new();
    let (info, _) = add_piece(
        &filled[..],
        &mut staged,
        UnpaddedBytesAmount(piece_size),
        &[],
    )
    .unwrap();
    staged.resize(usize::try_from(sector.size()).unwrap(), 0);
    assert_eq!(infos, [info]);
    assert!(
        fs::read(sector.staged()).unwrap() == staged,
        "staged files differ"
    );
    let commitment = proofs::piece_commitment(
        &sector.dir.path().join("deal"),
        payload_size as u64,
        piece_size,
        &mut Control::none(),
    );
    assert_eq!(commitment.unwrap(), infos[0].commitment);

    sector.tree_d();
    let ours = fs::read(sector.cache().join(TREE_D)).unwrap();
    assert!(
        ours == library_tree_d(&sector.staged()),
        "tree_d files differ"
    );
    let root: [u8; 32] = ours[ours.len() - 32..].try_into().unwrap();
    assert_eq!(
        root,
        proofs::data_commitment(sector.size(), &infos).unwrap()
    );
}

#[test]
fn a_2kib_sector_has_the_bytes_the_library_writes() {
    same_bytes_as_the_library(StackedDrg2KiBV1_1, 1000);
}

#[test]
fn an_8mib_sector_has_the_bytes_the_library_writes() {
    same_bytes_as_the_library(StackedDrg8MiBV1_1, 3_000_001);
}

#[test]
#[ignore = "reads and writes several GiB, past the page cache: make test-slow"]
fn a_512mib_sector_has_the_bytes_the_library_writes() {
    same_bytes_as_the_library(StackedDrg512MiBV1_1, 200_000_001);
    static_tree_is_that_of_zeros(StackedDrg512MiBV1_1);
}

#[test]
fn the_static_tree_is_the_tree_of_a_sector_of_zeros() {
    static_tree_is_that_of_zeros(StackedDrg2KiBV1_1);
    static_tree_is_that_of_zeros(StackedDrg8MiBV1_1);
}

fn static_tree_is_that_of_zeros(proof: RegisteredSealProof) {
    let sector = Sector::new(proof);
    sector.add_pieces(vec![]);
    let dir = tempfile::tempdir().unwrap();
    proofs::static_tree_d(sector.size(), dir.path(), &mut Control::none()).unwrap();
    let ours = fs::read(dir.path().join(TREE_D)).unwrap();
    assert!(ours == library_tree_d(&sector.staged()));
}

#[test]
fn a_staged_file_without_pieces_takes_no_space() {
    let sector = Sector::new(RegisteredSealProof::StackedDrg64GiBV1_1);
    let infos = sector.add_pieces(vec![]);
    assert_eq!(infos[0].commitment, proofs::zero_commitment(64 << 30));
    let staged = fs::metadata(sector.staged()).unwrap();
    assert_eq!((staged.len(), staged.blocks()), (64 << 30, 0));
}

#[test]
fn a_piece_can_come_from_an_open_descriptor() {
    let data = payload(1016, 5);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let feeder = std::thread::spawn({
        let data = data.clone();
        move || {
            data.chunks(100)
                .for_each(|part| writer.write_all(part).unwrap())
        }
    });
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let from_pipe = sector.add_pieces(vec![PieceSource {
        piece_file: PieceFile::Fd(reader.as_raw_fd()),
        payload_size: 1016,
        piece_size: 1016,
    }]);
    feeder.join().unwrap();
    let from_file = sector.add_pieces(vec![sector.piece("deal", &data, 1016)]);
    assert_eq!(from_pipe, from_file);
}

/// A pause waited for a download that had stalled.
#[test]
fn a_descriptor_that_delivers_nothing_does_not_keep_add_pieces_from_being_cancelled() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let task = sector.add_pieces_task(vec![PieceSource {
        piece_file: PieceFile::Fd(reader.as_raw_fd()),
        payload_size: 1016,
        piece_size: 1016,
    }]);
    let flag = AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            flag.store(true, Ordering::Relaxed);
        });
        proofs::add_pieces(&task, &mut Control::new(&flag, Box::new(|_, _| Ok(())))).unwrap_err()
    });
    assert!(error.is::<Cancelled>(), "{error:?}");
}

#[test]
fn a_source_that_can_not_be_used_is_named() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let deal = sector.dir.path().join("deal");
    let deal = deal.display();

    let mut short = sector.piece("deal", &payload(300, 1), 1016);
    short.payload_size = 400;
    assert_eq!(
        add_pieces_error(&sector, vec![short]),
        format!("piece 0: {deal}: ends after 300 bytes, payload_size is 400")
    );

    let mut large = sector.piece("deal", &payload(300, 1), 254);
    large.payload_size = 300;
    assert_eq!(
        add_pieces_error(&sector, vec![large]),
        "piece 0: payload of 300 bytes is larger than the piece of 254 bytes (unpadded)"
    );

    let url = PieceSource {
        piece_file: PieceFile::Url("http://manager/piece".into()),
        payload_size: 1,
        piece_size: 127,
    };
    let error = add_pieces_error(&sector, vec![url]);
    assert!(
        error.starts_with("piece 0: http://manager/piece: "),
        "{error}"
    );

    let closed = PieceSource {
        piece_file: PieceFile::Fd(1 << 20),
        payload_size: 1,
        piece_size: 127,
    };
    assert_eq!(
        add_pieces_error(&sector, vec![closed]),
        "piece 0: file descriptor 1048576: Bad file descriptor (os error 9)"
    );
}

#[test]
fn a_set_flag_ends_add_pieces_and_tree_d() {
    let sector = Sector::new(StackedDrg8MiBV1_1);
    let pieces = vec![sector.piece("deal", &payload(100, 1), 127)];
    let set = AtomicBool::new(true);
    let mut cancelled = Control::new(&set, Box::new(|_, _| Ok(())));
    let task = sector.add_pieces_task(pieces);
    let error = proofs::add_pieces(&task, &mut cancelled).unwrap_err();
    assert!(error.is::<Cancelled>(), "{error:?}");
    sector.add_pieces(vec![]);
    let error = proofs::tree_d(&sector.tree_d_task(), &mut cancelled).unwrap_err();
    assert!(error.is::<Cancelled>(), "{error:?}");
}

#[test]
fn a_failed_tree_d_leaves_the_old_one_and_no_remains() {
    let sector = Sector::new(StackedDrg8MiBV1_1);
    sector.add_pieces(vec![]);
    fs::write(sector.cache().join(TREE_D), b"old").unwrap();
    let flag = AtomicBool::new(false);
    let mut control = Control::new(&flag, Box::new(|_, _| anyhow::bail!("report refused")));
    let error = proofs::tree_d(&sector.tree_d_task(), &mut control).unwrap_err();
    assert_eq!(one_line(&error), "report refused");
    let names: Vec<_> = fs::read_dir(sector.cache())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [TREE_D]);
}

#[test]
fn a_link_to_a_static_tree_is_replaced_and_not_written_through() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    sector.add_pieces(vec![sector.piece("deal", &payload(2000, 1), 2032)]);
    let shared = sector.dir.path().join("static");
    fs::write(&shared, b"shared").unwrap();
    symlink(&shared, sector.cache().join(TREE_D)).unwrap();
    sector.tree_d();
    assert_eq!(fs::read(&shared).unwrap(), b"shared");
    assert!(!fs::symlink_metadata(sector.cache().join(TREE_D))
        .unwrap()
        .is_symlink());
}

#[test]
fn a_truncated_staged_file_is_named_with_both_sizes() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let infos = sector.add_pieces(vec![]);
    sector.tree_d();
    File::options()
        .write(true)
        .open(sector.staged())
        .unwrap()
        .set_len(1024)
        .unwrap();
    let expected = format!(
        "staged file {}: 1024 bytes found, 2048 expected",
        sector.staged().display()
    );
    let tree_d = proofs::tree_d(&sector.tree_d_task(), &mut Control::none());
    assert_eq!(one_line(&tree_d.unwrap_err()), expected);
    let pc1 = proofs::pc1(sector.pc1_task(&infos), &mut Control::none());
    assert_eq!(one_line(&pc1.unwrap_err()), expected);
}

#[test]
fn missing_inputs_of_later_stages_are_named() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let infos = sector.add_pieces(vec![]);
    let error = proofs::pc1(sector.pc1_task(&infos), &mut Control::none()).unwrap_err();
    assert_eq!(
        one_line(&error),
        format!(
            "tree_d {}: No such file or directory (os error 2)",
            sector.cache().join(TREE_D).display()
        )
    );

    sector.tree_d();
    let pc1out = sector.pc1(&infos);
    let layer = sector.cache().join("sc-02-data-layer-2.dat");
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, &whole[..32]).unwrap();
    let error = proofs::pc2(sector.pc2_task(pc1out.clone()), &mut Control::none()).unwrap_err();
    assert_eq!(
        one_line(&error),
        format!(
            "label layer 2 {}: 32 bytes found, 2048 expected; run PC1 again, which makes damaged layers anew \
             and keeps the others",
            layer.display()
        )
    );

    fs::write(&layer, &whole).unwrap();
    let pc2out = sector.pc2(pc1out);
    fs::remove_file(sector.cache().join("t_aux")).unwrap();
    let error = proofs::c1(sector.c1_task(&pc2out, &infos), &mut Control::none()).unwrap_err();
    assert_eq!(
        one_line(&error),
        format!(
            "PC2 result {}: No such file or directory (os error 2)",
            sector.cache().join("t_aux").display()
        )
    );
}
