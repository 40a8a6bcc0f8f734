//! Unsealing 2 KiB sectors of each kind of proof type, and what it leaves on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sector::{payload, Sector, PROVER_ID, SECTOR_ID, TICKET};
use filecoin_proofs_api::seal::get_unsealed_range;
use filecoin_proofs_api::RegisteredSealProof::{
    self, StackedDrg2KiBV1, StackedDrg2KiBV1_1, StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
    StackedDrg2KiBV1_2_Feat_NonInteractivePoRep, StackedDrg8MiBV1_1,
};
use filecoin_proofs_api::{UnpaddedByteIndex, UnpaddedBytesAmount};
use proofs::control::Cancelled;
use proofs::failure::one_line;
use proofs::tasks::Unseal;
use proofs::{data_commitment, Control};

/// A sector sealed in one directory (the store) and an output in another.
struct Sealed {
    sector: Sector,
    data: Vec<u8>,
    comm_d: [u8; 32],
    out: tempfile::TempDir,
}

impl Sealed {
    /// Two deals of 508 and 1016 unpadded bytes, with the gap that alignment asks for.
    fn with_deals(proof: RegisteredSealProof) -> Self {
        let sector = Sector::new(proof);
        let (first, second) = (payload(500, 1), payload(1016, 2));
        let pieces = vec![
            sector.piece("first", &first, 508),
            sector.piece("second", &second, 1016),
        ];
        let mut data = first;
        data.resize(1016, 0);
        data.extend(second);
        Sealed::new(sector, pieces, data)
    }

    fn new(sector: Sector, pieces: Vec<proofs::tasks::PieceSource>, data: Vec<u8>) -> Self {
        let infos = sector.add_pieces(pieces);
        sector.tree_d();
        sector.pc2(sector.pc1(&infos));
        // Without deals the only info is that of the whole sector.
        let comm_d = data_commitment(2048, &infos).unwrap();
        Sealed {
            sector,
            data,
            comm_d,
            out: tempfile::tempdir().unwrap(),
        }
    }

    fn task(&self) -> Unseal {
        Unseal {
            registered_proof: self.sector.proof,
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            comm_d: self.comm_d,
            ticket: TICKET,
            cache_dir: self.sector.cache(),
            sealed_file: self.sector.sealed(),
            unsealed_output: self.out.path().join("unsealed"),
            offset: 0,
            num_bytes: 2032,
        }
    }

    fn unseal(&self, task: &Unseal) -> Vec<u8> {
        let written = proofs::unseal(task, &mut Control::none()).unwrap();
        assert_eq!(written, task.num_bytes);
        fs::read(&task.unsealed_output).unwrap()
    }

    fn error(&self, task: &Unseal) -> String {
        let error = proofs::unseal(task, &mut Control::none()).unwrap_err();
        assert!(!task.unsealed_output.exists());
        one_line(&error)
    }
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into())
        .collect();
    names.sort();
    names
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    names(dir)
        .into_iter()
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

#[test]
fn a_sector_without_deals_unseals_to_zeros() {
    let sealed = Sealed::new(Sector::new(StackedDrg2KiBV1_1), vec![], vec![0; 2032]);
    assert!(sealed.unseal(&sealed.task()) == sealed.data);
}

#[test]
fn deals_are_read_back_from_each_kind_of_sector() {
    for proof in [
        StackedDrg2KiBV1,
        StackedDrg2KiBV1_1,
        StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
        StackedDrg2KiBV1_2_Feat_NonInteractivePoRep,
    ] {
        let sealed = Sealed::with_deals(proof);
        assert!(sealed.unseal(&sealed.task()) == sealed.data, "{proof:?}");
    }
}

#[test]
fn a_range_has_the_bytes_the_library_reads() {
    let sealed = Sealed::with_deals(StackedDrg2KiBV1_1);
    for (offset, num_bytes) in [(0, 127), (0, 508), (1016, 1016), (1905, 127)] {
        let task = Unseal {
            offset,
            num_bytes,
            ..sealed.task()
        };
        let scratch = tempfile::tempdir().unwrap();
        let library = sealed.out.path().join("library");
        get_unsealed_range(
            sealed.sector.proof,
            scratch.path().to_owned(),
            sealed.sector.sealed(),
            library.clone(),
            PROVER_ID,
            SECTOR_ID.into(),
            sealed.comm_d,
            TICKET,
            UnpaddedByteIndex(offset),
            UnpaddedBytesAmount(num_bytes),
        )
        .unwrap();
        let ours = sealed.unseal(&task);
        assert!(
            ours == fs::read(&library).unwrap(),
            "{num_bytes} at {offset}"
        );
        assert!(ours == sealed.data[offset as usize..(offset + num_bytes) as usize]);
    }
}

#[test]
fn a_range_may_start_and_end_anywhere() {
    let sealed = Sealed::with_deals(StackedDrg2KiBV1_1);
    for (offset, num_bytes) in [(1, 1), (126, 2), (1000, 700), (2031, 1)] {
        let task = Unseal {
            offset,
            num_bytes,
            ..sealed.task()
        };
        let expected = &sealed.data[offset as usize..(offset + num_bytes) as usize];
        assert!(sealed.unseal(&task) == expected, "{num_bytes} at {offset}");
    }
}

#[test]
fn nothing_but_the_output_is_written() {
    let sealed = Sealed::with_deals(StackedDrg2KiBV1_1);
    let cache = contents(&sealed.sector.cache());
    let replica = fs::read(sealed.sector.sealed()).unwrap();
    sealed.unseal(&sealed.task());
    assert!(contents(&sealed.sector.cache()) == cache);
    assert!(fs::read(sealed.sector.sealed()).unwrap() == replica);
    assert_eq!(names(sealed.out.path()), [Path::new("unsealed")]);
}

#[test]
fn unsealing_is_cancelled_while_labels_are_computed() {
    let sector = Sector::new(StackedDrg8MiBV1_1);
    fs::write(sector.sealed(), vec![0; 8 << 20]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let task = Unseal {
        registered_proof: sector.proof,
        prover_id: PROVER_ID,
        sector_id: SECTOR_ID,
        comm_d: [1; 32],
        ticket: TICKET,
        cache_dir: sector.cache(),
        sealed_file: sector.sealed(),
        unsealed_output: out.path().join("unsealed"),
        offset: 0,
        num_bytes: 127,
    };
    let flag = AtomicBool::new(false);
    let report = |_, _| {
        flag.store(true, Ordering::Relaxed);
        Ok(())
    };
    let mut control = Control::new(&flag, Box::new(report));
    let error = proofs::unseal(&task, &mut control).unwrap_err();
    assert!(error.is::<Cancelled>(), "{error:?}");
    assert_eq!(names(out.path()).len(), 0);
}

#[test]
fn a_sector_sealed_otherwise_is_recognised() {
    let sealed = Sealed::with_deals(StackedDrg2KiBV1_1);
    let other_type = Unseal {
        registered_proof: StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
        ..sealed.task()
    };
    let other_ticket = Unseal {
        ticket: [9; 32],
        ..sealed.task()
    };
    for task in [other_type, other_ticket] {
        let error = sealed.error(&task);
        let start = format!(
            "unseal {} as sector 7 of {:?}: node ",
            task.sealed_file.display(),
            task.registered_proof
        );
        assert!(error.starts_with(&start), "{error}");
        assert!(
            error.ends_with("decodes to no padded data, so the key isn't this sector's"),
            "{error}"
        );
        assert_eq!(names(sealed.out.path()).len(), 0);
    }
}

#[test]
fn what_can_not_be_unsealed_is_named() {
    let sealed = Sealed::with_deals(StackedDrg2KiBV1_1);
    let outside = Unseal {
        offset: 1017,
        num_bytes: 1016,
        ..sealed.task()
    };
    assert_eq!(
        sealed.error(&outside),
        "range of 1016 bytes at offset 1017: the sector has 2032 unpadded bytes"
    );

    let replica = sealed.sector.sealed();
    let mut bytes = fs::read(&replica).unwrap();
    bytes[95] = 0xff;
    fs::write(&replica, &bytes).unwrap();
    let error = sealed.error(&sealed.task());
    assert!(error.ends_with("node 2: is no field element"), "{error}");

    fs::write(&replica, &bytes[..2000]).unwrap();
    assert_eq!(
        sealed.error(&sealed.task()),
        format!(
            "sealed file {}: 2000 bytes found, 2048 expected",
            replica.display()
        )
    );
}
