//! The shapes of large sectors, small: eleven layers, trees of trees. The judge is the proofs
//! library, whose vanilla proofs are made from the files of this engine, and verified.

use std::fs::{self, File};
use std::path::Path;

use filecoin_hashers::poseidon::PoseidonHasher;
use filecoin_hashers::sha256::Sha256Hasher;
use filecoin_hashers::{Domain, Hasher, PoseidonArity};
use memmap2::MmapMut;
use pc2::{Engine, Sector, Shape, TREE_C, TREE_R_LAST};
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage_proofs_core::api_version::ApiVersion;
use storage_proofs_core::drgraph::BASE_DEGREE;
use storage_proofs_core::merkle::{get_base_tree_count, LCTree};
use storage_proofs_core::proof::ProofScheme;
use storage_proofs_core::util::default_rows_to_discard;
use storage_proofs_porep::stacked::{
    Challenges, PrivateInputs, PublicInputs, SetupParams, StackedDrg, TemporaryAuxCache, EXP_DEGREE,
};
use typenum::{U0, U2, U8};

use super::{kernels, random_nodes};

const LAYERS: u32 = 11;
const PARTITIONS: usize = 2;
const TREE_D: &str = "sc-02-data-tree-d.dat";

/// The replica and the files of both trees, in order.
fn files(shape: &Shape, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let trees = [TREE_C, TREE_R_LAST].into_iter().flat_map(|stem| {
        (0..shape.base_trees()).map(move |index| match shape.base_trees() {
            1 => format!("{stem}.dat"),
            _ => format!("{stem}-{index}.dat"),
        })
    });
    ["replica".to_owned()]
        .into_iter()
        .chain(trees)
        .map(|name| {
            let contents = fs::read(dir.join(&name)).unwrap();
            (name, contents)
        })
        .collect()
}

/// Seals `base_nodes` nodes for each base tree with the library and with this engine.
fn same_as_the_library<Sub: 'static + PoseidonArity, Top: 'static + PoseidonArity>(
    base_nodes: usize,
) {
    type Tree<Sub, Top> = LCTree<PoseidonHasher, U8, Sub, Top>;
    type Drg<'a, Sub, Top> = StackedDrg<'a, Tree<Sub, Top>, Sha256Hasher>;
    type NodeOf = <PoseidonHasher as Hasher>::Domain;

    let mut random = ChaCha8Rng::seed_from_u64(base_nodes as u64);
    let nodes = base_nodes * get_base_tree_count::<Tree<Sub, Top>>();
    let setup = SetupParams {
        nodes,
        degree: BASE_DEGREE,
        expansion_degree: EXP_DEGREE,
        porep_id: [5; 32],
        challenges: Challenges::new_interactive(5),
        num_layers: LAYERS as usize,
        api_version: ApiVersion::V1_2_0,
        api_features: vec![],
    };
    let parameters = Drg::<Sub, Top>::setup(&setup).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().to_owned();
    let replica_path = cache.join("replica");
    let data = random_nodes(nodes, &mut random);
    fs::write(&replica_path, data.as_flattened()).unwrap();
    let replica_id = NodeOf::try_from_bytes(&random_nodes(1, &mut random)[0]).unwrap();

    let (labels, _) = Drg::<Sub, Top>::replicate_phase1(&parameters, &replica_id, &cache).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&replica_path)
        .unwrap();
    // SAFETY: nobody else writes to the file while it is mapped.
    let mut mapped = unsafe { MmapMut::map_mut(&file) }.unwrap();
    let (tau, (p_aux, t_aux)) = Drg::<Sub, Top>::replicate_phase2(
        &parameters,
        labels,
        mapped.as_mut().into(),
        None,
        cache.clone(),
        replica_path.clone(),
    )
    .unwrap();
    drop(mapped);

    let shape = Shape {
        nodes: nodes as u64,
        layers: LAYERS,
        sub_arity: Sub::U64,
        top_arity: Top::U64,
        rows_to_discard: default_rows_to_discard(base_nodes, 8) as u32,
    };
    let expected = files(&shape, &cache);
    for kernel in kernels() {
        for (name, _) in &expected {
            fs::remove_file(cache.join(name)).unwrap();
        }
        let sector = Sector {
            shape,
            cache_dir: &cache,
            data: &cache.join(TREE_D),
            comm_d: tau.comm_d.into(),
            replica: &replica_path,
        };
        let engine = Engine { kernel, threads: 3 };
        let mut last = (0, 0);
        let commitments = engine
            .run(
                &sector,
                &mut |done, total| {
                    assert!(last.0 <= done && done <= total);
                    last = (done, total);
                    Ok(())
                },
                &mut |_| Ok(()),
            )
            .unwrap();
        assert_eq!(commitments.comm_c, <[u8; 32]>::from(p_aux.comm_c));
        assert_eq!(commitments.comm_r_last, <[u8; 32]>::from(p_aux.comm_r_last));
        assert_eq!(commitments.comm_r, <[u8; 32]>::from(tau.comm_r));
        for ((name, found), (_, expected)) in files(&shape, &cache).iter().zip(&expected) {
            assert!(found == expected, "{name} by {}", kernel.name());
        }
    }

    let public = PublicInputs {
        replica_id,
        seed: Some([9; 32]),
        tau: Some(tau),
        k: None,
    };
    let private = PrivateInputs {
        p_aux,
        t_aux: TemporaryAuxCache::new(&t_aux, replica_path, false).unwrap(),
    };
    let proofs =
        Drg::<Sub, Top>::prove_all_partitions(&parameters, &public, &private, PARTITIONS).unwrap();
    assert!(Drg::<Sub, Top>::verify_all_partitions(&parameters, &public, &proofs).unwrap());
}

#[test]
fn eleven_layers_under_one_tree() {
    same_as_the_library::<U0, U0>(512);
}

#[test]
fn the_form_of_32_gib_eight_trees_under_a_root() {
    same_as_the_library::<U8, U0>(64);
    same_as_the_library::<U8, U0>(512);
}

#[test]
fn the_form_of_64_gib_two_times_eight_trees() {
    same_as_the_library::<U8, U2>(64);
}
