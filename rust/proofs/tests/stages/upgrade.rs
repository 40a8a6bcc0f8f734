//! Upgrading a 2 KiB sector without data, up to the vanilla proofs, and decoding it again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::sector::{payload, Sector, PROVER_ID, SECTOR_ID, TICKET};
use filecoin_proofs_api::RegisteredSealProof::StackedDrg2KiBV1_1;
use filecoin_proofs_api::RegisteredUpdateProof::StackedDrg2KiBV1;
use proofs::failure::one_line;
use proofs::tasks::{
    SealedEmpty, SnapDecode, SnapEncode, SnapEncodeOutput, SnapProve, SnapVanilla, UpdateKey,
    VerifySnap,
};
use proofs::{Control, PieceInfo};
use serde_json::to_value;

const TREE_D: &str = "sc-02-data-tree-d.dat";

/// A sealed sector without data, and a deal staged for it.
pub struct Upgrade {
    pub sector: Sector,
    pub comm_r_old: [u8; 32],
    pub pieces: Vec<PieceInfo>,
    /// The deal, zero-filled to the sector's unpadded size.
    pub data: Vec<u8>,
}

impl Upgrade {
    /// The deal fills the sector's second half; the first half is zeros.
    pub fn staged() -> Self {
        let sector = Sector::new(StackedDrg2KiBV1_1);
        let (_, c1out) = sector.seal(vec![]);
        fs::create_dir(sector.dir.path().join("update-cache")).unwrap();
        let deal = payload(1000, 3);
        let half = 1016;
        let zeros = sector.piece("zeros", &[], half);
        let pieces = sector.add_pieces(vec![zeros, sector.piece("deal", &deal, half)]);
        let mut data = vec![0; 1016];
        data.extend(deal);
        data.resize(2032, 0);
        Upgrade {
            comm_r_old: c1out.comm_r,
            sector,
            pieces,
            data,
        }
    }

    pub fn update_file(&self) -> PathBuf {
        self.sector.dir.path().join("update")
    }

    pub fn update_cache(&self) -> PathBuf {
        self.sector.dir.path().join("update-cache")
    }

    pub fn encode_task(&self) -> SnapEncode {
        SnapEncode {
            registered_proof: StackedDrg2KiBV1,
            new_replica_path: self.update_file(),
            new_cache_path: self.update_cache(),
            sector_path: self.sector.sealed(),
            sector_cache_path: self.sector.cache(),
            staged_data_path: self.sector.staged(),
            piece_infos: self.pieces.clone(),
        }
    }

    pub fn encode(&self) -> SnapEncodeOutput {
        proofs::snap_encode(&self.encode_task(), &mut Control::none()).unwrap()
    }

    pub fn vanilla_task(&self, encoded: &SnapEncodeOutput) -> SnapVanilla {
        SnapVanilla {
            registered_proof: StackedDrg2KiBV1,
            comm_r_old: self.comm_r_old,
            comm_r_new: encoded.comm_r_new,
            comm_d_new: encoded.comm_d_new,
            sector_path: self.sector.sealed(),
            sector_cache_path: self.sector.cache(),
            new_replica_path: self.update_file(),
            new_cache_path: self.update_cache(),
        }
    }

    fn decode_task(&self, encoded: &SnapEncodeOutput, key: &Path) -> SnapDecode {
        SnapDecode {
            registered_proof: StackedDrg2KiBV1,
            new_replica_path: self.update_file(),
            key: UpdateKey::SealedFile(key.to_owned()),
            comm_r_old: self.comm_r_old,
            comm_d_new: encoded.comm_d_new,
            unsealed_output: self.sector.dir.path().join("unsealed"),
            offset: 0,
            num_bytes: 2032,
        }
    }
}

fn decode(task: &SnapDecode) -> Vec<u8> {
    let written = proofs::snap_decode(task, &mut Control::none()).unwrap();
    assert_eq!(written, task.num_bytes);
    fs::read(&task.unsealed_output).unwrap()
}

fn encode_error(task: &SnapEncode) -> String {
    one_line(&proofs::snap_encode(task, &mut Control::none()).unwrap_err())
}

fn vanilla_error(task: &SnapVanilla) -> String {
    one_line(&proofs::snap_vanilla(task, &mut Control::none()).unwrap_err())
}

#[test]
fn an_upgraded_sector_has_vanilla_proofs_and_decodes_to_its_data() {
    let upgrade = Upgrade::staged();
    let encoded = upgrade.encode();
    assert_eq!(
        encoded.comm_d_new,
        proofs::data_commitment(2048, &upgrade.pieces).unwrap()
    );
    assert_ne!(encoded.comm_r_new, upgrade.comm_r_old);
    let value = to_value(&encoded).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["comm_d_new", "comm_r_last_new", "comm_r_new"]);
    assert_eq!(value["comm_r_new"].as_array().unwrap().len(), 32);

    let vanilla =
        proofs::snap_vanilla(&upgrade.vanilla_task(&encoded), &mut Control::none()).unwrap();
    assert_eq!(vanilla.len(), 1, "one partition at 2 KiB");

    let task = upgrade.decode_task(&encoded, &upgrade.sector.sealed());
    assert!(decode(&task) == upgrade.data);
    for (offset, num_bytes) in [(0, 1), (1016, 1016), (1500, 333), (2031, 1)] {
        let range = SnapDecode {
            offset,
            num_bytes,
            ..task.clone()
        };
        let expected = &upgrade.data[offset as usize..(offset + num_bytes) as usize];
        assert!(decode(&range) == expected, "{num_bytes} bytes at {offset}");
    }
}

#[test]
fn without_the_sealed_file_the_key_is_computed_from_what_was_sealed() {
    let upgrade = Upgrade::staged();
    let encoded = upgrade.encode();
    let task = upgrade.decode_task(&encoded, Path::new("not used"));
    fs::remove_file(upgrade.sector.sealed()).unwrap();
    let with_ticket = |ticket| SnapDecode {
        key: UpdateKey::Sealed(SealedEmpty {
            registered_proof: upgrade.sector.proof,
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            ticket,
        }),
        ..task.clone()
    };
    let sealed = with_ticket(TICKET);
    assert!(decode(&sealed) == upgrade.data);
    let spelt = to_value(&sealed).unwrap();
    assert_eq!(spelt["key"]["sealed"]["sector_id"], SECTOR_ID);

    let error = proofs::snap_decode(&with_ticket([9; 32]), &mut Control::none()).unwrap_err();
    let text = one_line(&error);
    assert!(
        text.contains("the key of sector 7 of StackedDrg2KiBV1_1: node ")
            && text.ends_with("so the key isn't this sector's"),
        "{text}"
    );
}

#[test]
fn encoding_twice_gives_the_same_commitments() {
    let upgrade = Upgrade::staged();
    let first = upgrade.encode();
    fs::write(upgrade.update_file(), b"cut short").unwrap();
    assert_eq!(upgrade.encode(), first);
}

#[test]
fn a_link_to_the_prepared_tree_d_is_used() {
    let upgrade = Upgrade::staged();
    upgrade.sector.tree_d();
    let link = upgrade.update_cache().join(TREE_D);
    symlink(upgrade.sector.cache().join(TREE_D), &link).unwrap();
    upgrade.encode();
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_tree_d_of_other_data_is_replaced_and_not_written_through() {
    let upgrade = Upgrade::staged();
    let of_zeros = upgrade.sector.cache().join(TREE_D);
    let before = fs::read(&of_zeros).unwrap();
    let link = upgrade.update_cache().join(TREE_D);
    symlink(&of_zeros, &link).unwrap();
    let encoded = upgrade.encode();
    assert!(!link.symlink_metadata().unwrap().is_symlink());
    assert!(fs::read(&of_zeros).unwrap() == before);
    assert!(fs::read(&link).unwrap().ends_with(&encoded.comm_d_new));
}

#[test]
fn files_that_encoding_can_not_use_are_named() {
    let upgrade = Upgrade::staged();
    let task = upgrade.encode_task();

    let own = SnapEncode {
        new_cache_path: task.sector_cache_path.clone(),
        ..task.clone()
    };
    let cache = upgrade.sector.cache().canonicalize().unwrap();
    assert_eq!(
        encode_error(&own),
        format!(
            "update-cache directory {}: is the sector's own, expected another one",
            cache.display()
        )
    );
    assert!(cache.join("p_aux").is_file());

    let missing = SnapEncode {
        sector_path: "/nowhere/sealed".into(),
        ..task.clone()
    };
    assert_eq!(
        encode_error(&missing),
        "sealed file /nowhere/sealed: No such file or directory (os error 2)"
    );

    fs::remove_file(cache.join("t_aux")).unwrap();
    assert_eq!(
        encode_error(&task),
        format!(
            "PC2 result {}: No such file or directory (os error 2)",
            upgrade.sector.cache().join("t_aux").display()
        )
    );
}

#[test]
fn vanilla_proofs_name_what_is_wrong() {
    let upgrade = Upgrade::staged();
    let encoded = upgrade.encode();
    let task = upgrade.vanilla_task(&encoded);
    let other = SnapVanilla {
        comm_r_old: encoded.comm_r_last_new,
        ..task.clone()
    };
    let error = vanilla_error(&other);
    assert!(
        error
            .ends_with("don't hold: comm_r_old, comm_r_new or comm_d_new is not that of the files"),
        "{error}"
    );

    fs::write(upgrade.update_file(), [0; 1000]).unwrap();
    assert_eq!(
        vanilla_error(&task),
        format!(
            "update file {}: 1000 bytes found, 2048 expected",
            upgrade.update_file().display()
        )
    );

    upgrade.encode();
    let tree = upgrade.sector.cache().join("sc-02-data-tree-r-last.dat");
    fs::remove_file(&tree).unwrap();
    assert_eq!(
        vanilla_error(&task),
        format!(
            "tree_r_last {}: No such file or directory (os error 2)",
            tree.display()
        )
    );
}

#[test]
fn decoding_with_another_key_or_outside_the_sector_is_refused() {
    let upgrade = Upgrade::staged();
    let encoded = upgrade.encode();
    let task = upgrade.decode_task(&encoded, &upgrade.sector.sealed());
    let error = |task: &SnapDecode| {
        let error = proofs::snap_decode(task, &mut Control::none()).unwrap_err();
        assert!(!task.unsealed_output.exists());
        one_line(&error)
    };

    let first_layer = upgrade.sector.cache().join("sc-02-data-layer-1.dat");
    let text = error(&upgrade.decode_task(&encoded, &first_layer));
    let update = upgrade.update_file();
    let start = format!(
        "decode {} with the key of {}: ",
        update.display(),
        first_layer.display()
    );
    assert!(text.starts_with(&start), "{text}");
    assert!(
        text.ends_with("decodes to no padded data, so the key isn't this sector's"),
        "{text}"
    );

    let outside = SnapDecode {
        offset: 2000,
        num_bytes: 33,
        ..task.clone()
    };
    assert_eq!(
        error(&outside),
        "range of 33 bytes at offset 2000: the sector has 2032 unpadded bytes"
    );

    fs::write(&first_layer, b"short").unwrap();
    assert_eq!(
        error(&upgrade.decode_task(&encoded, &first_layer)),
        format!(
            "key file {}: 5 bytes found, 2048 expected",
            first_layer.display()
        )
    );
}

#[test]
fn the_proof_needs_good_vanilla_proofs_and_bytes_that_are_none_do_not_verify() {
    let commitments = ([1; 32], [2; 32], [3; 32]);
    let (comm_r_old, comm_r_new, comm_d_new) = commitments;
    let error = |vannilla_proofs| {
        let task = SnapProve {
            registered_proof: StackedDrg2KiBV1,
            vannilla_proofs,
            comm_r_old,
            comm_r_new,
            comm_d_new,
        };
        one_line(&proofs::snap_prove(task, &mut Control::none()).unwrap_err())
    };
    assert_eq!(
        error(vec![]),
        "vannilla_proofs: 0 found, 1 expected, one per partition"
    );
    assert!(error(vec![vec![1, 2, 3]]).starts_with("vannilla_proofs: "));

    let upgrade = Upgrade::staged();
    let task = upgrade.vanilla_task(&upgrade.encode());
    let of_others = proofs::snap_vanilla(&task, &mut Control::none()).unwrap();
    assert_eq!(
        error(of_others),
        "vannilla_proofs: don't hold for comm_r_old, comm_r_new and comm_d_new"
    );
    for proof in [vec![], vec![0; 192], vec![0xff; 192], vec![0; 191]] {
        let task = VerifySnap {
            registered_proof: StackedDrg2KiBV1,
            proof,
            comm_r_old,
            comm_r_new,
            comm_d_new,
        };
        assert!(!proofs::verify_snap(&task).unwrap());
    }
}
