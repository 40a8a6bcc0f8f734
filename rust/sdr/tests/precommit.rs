//! The crate's PC2 takes over from the engine's layers: the same replica, whoever did PC1.

mod common;

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use common::{specs, Random};
use filecoin_hashers::poseidon::PoseidonHasher;
use filecoin_proofs_api::seal::{
    generate_piece_commitment, seal_pre_commit_phase1, seal_pre_commit_phase2,
    SealPreCommitPhase1Output,
};
use filecoin_proofs_api::{RegisteredSealProof, UnpaddedBytesAmount};
use sdr::arena::{Arena, Pool};
use sdr::parents::ParentsCache;
use sdr::topology::{allowed_cpus, Core};
use sdr::{label_sector, Engine, Sector, Watch};
use storage_proofs_porep::stacked::generate_replica_id;

const PROVER_ID: [u8; 32] = [3; 32];
const SECTOR_ID: u64 = 77;
const UNPADDED: usize = 2032;

/// The crate's PC1 into `dir`, which is created; returns its output.
fn crate_pc1(
    proof: RegisteredSealProof,
    ticket: [u8; 32],
    dir: &Path,
) -> SealPreCommitPhase1Output {
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("staged"), [0; 2048]).unwrap();
    File::create(dir.join("sealed")).unwrap();
    let amount = UnpaddedBytesAmount(UNPADDED as u64);
    let piece = generate_piece_commitment(proof, Cursor::new(vec![0; UNPADDED]), amount).unwrap();
    let (staged, sealed) = (dir.join("staged"), dir.join("sealed"));
    seal_pre_commit_phase1(
        proof,
        dir,
        &staged,
        &sealed,
        PROVER_ID,
        SECTOR_ID.into(),
        ticket,
        &[piece],
    )
    .unwrap()
}

#[test]
fn comm_r_of_a_2_kib_sector_is_the_same() {
    let root = tempfile::tempdir().unwrap();
    // The crate reads its settings once per process.
    std::env::set_var("FIL_PROOFS_PARENT_CACHE", root.path());
    let proofs = [
        RegisteredSealProof::StackedDrg2KiBV1,
        RegisteredSealProof::StackedDrg2KiBV1_1,
        RegisteredSealProof::StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
        RegisteredSealProof::StackedDrg2KiBV1_2_Feat_NonInteractivePoRep,
    ];
    let core = Core {
        cpu: allowed_cpus().unwrap()[0],
        node: None,
        cache: None,
    };
    let arena = Arena::new(Pool::default(), Path::new("/sys"));
    let engine = Engine::new(vec![core], common::kernel(), 1, arena, &mut |_| ()).unwrap();
    let mut random = Random(41);
    for (proof, spec) in proofs.into_iter().zip(specs(2048)) {
        let ticket = random.field_element();
        let theirs = root.path().join("theirs");
        let output = crate_pc1(proof, ticket, &theirs);

        // The same directory as PC1 leaves it, but with the engine's layers.
        let ours = root.path().join("ours");
        fs::create_dir(&ours).unwrap();
        for name in ["sealed", "sc-02-data-tree-d.dat"] {
            fs::copy(theirs.join(name), ours.join(name)).unwrap();
        }
        let replica_id = generate_replica_id::<PoseidonHasher, _>(
            &PROVER_ID,
            SECTOR_ID,
            &ticket,
            output.comm_d,
            &spec.porep_id,
        );
        let sector = Sector {
            parents: Arc::new(ParentsCache::in_memory(spec).unwrap()),
            replica_id: replica_id.into(),
            layers: 2,
        };
        let mut watch = Watch {
            progress: &mut |_| Ok(()),
            say: &mut |_| (),
        };
        label_sector(&engine, &sector, &ours, &mut watch).unwrap();

        let [expected, found] = [&theirs, &ours].map(|dir| {
            // Paths in the output are replaced by the given ones.
            let output = seal_pre_commit_phase2(output.clone(), dir, dir.join("sealed")).unwrap();
            (output.comm_r, fs::read(dir.join("sealed")).unwrap())
        });
        assert_eq!(found, expected, "{proof:?}");
        fs::remove_dir_all(theirs).unwrap();
        fs::remove_dir_all(ours).unwrap();
    }
}
