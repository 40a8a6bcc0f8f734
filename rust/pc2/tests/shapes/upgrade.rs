//! Upgrades in the shapes of large sectors, small: trees of trees. The proofs library is the judge of the
//! replica and of tree_r_last.

use std::fs::{self, File};
use std::path::Path;

use filecoin_hashers::poseidon::PoseidonHasher;
use filecoin_hashers::{Domain, HashFunction, Hasher, PoseidonArity};
use filecoin_proofs::types::StoreConfig;
use pc2::{Engine, Shape, Update, TREE_R_LAST};
use poseidon::Node;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage_proofs_core::cache_key::CacheKey;
use storage_proofs_core::merkle::{get_base_tree_count, LCTree};
use storage_proofs_core::util::default_rows_to_discard;
use storage_proofs_update::{phi, rho, EmptySectorUpdate};
use typenum::{U0, U2, U8};

use super::{kernels, random_nodes};

type NodeOf = <PoseidonHasher as Hasher>::Domain;

/// Bits of a node's number that choose its factor.
const HIGH_BITS: usize = 3;

/// The new replica and the files of tree_r_last, in order.
fn files(dir: &Path, trees: usize) -> Vec<Vec<u8>> {
    let names = (0..trees).map(|index| match trees {
        1 => format!("{TREE_R_LAST}.dat"),
        _ => format!("{TREE_R_LAST}-{index}.dat"),
    });
    ["replica".to_owned()]
        .into_iter()
        .chain(names)
        .map(|name| fs::read(dir.join(&name)).expect(&name))
        .collect()
}

/// Upgrades a sector of `base_nodes` nodes for each base tree with the library and with this engine.
fn same_as_the_library<Sub: 'static + PoseidonArity, Top: 'static + PoseidonArity>(
    base_nodes: usize,
) {
    type Tree<Sub, Top> = LCTree<PoseidonHasher, U8, Sub, Top>;
    let trees = get_base_tree_count::<Tree<Sub, Top>>();
    let nodes = trees * base_nodes;
    let rows_to_discard = default_rows_to_discard(base_nodes, 8);
    let mut random = ChaCha8Rng::seed_from_u64(nodes as u64);
    let [key, data, old] = [nodes, nodes, 2].map(|count| random_nodes(count, &mut random));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("key"), key.as_flattened()).unwrap();
    fs::write(path("data"), data.as_flattened()).unwrap();

    let theirs = path("theirs");
    fs::create_dir(&theirs).unwrap();
    let replica = File::create(theirs.join("replica")).unwrap();
    replica.set_len(32 * nodes as u64).unwrap();
    let config = |key: CacheKey, size, rows| StoreConfig {
        size: Some(size),
        ..StoreConfig::new(&theirs, key.to_string(), rows)
    };
    let [comm_c, comm_r_last_old] = [0, 1].map(|i| NodeOf::try_from_bytes(&old[i]).unwrap());
    let (comm_r, comm_r_last, comm_d) = EmptySectorUpdate::<Tree<Sub, Top>>::encode_into(
        nodes,
        config(CacheKey::CommDTree, 2 * nodes - 1, 0),
        config(
            CacheKey::CommRLastTree,
            (8 * base_nodes - 1) / 7,
            rows_to_discard,
        ),
        comm_c,
        comm_r_last_old,
        &theirs.join("replica"),
        &path("key"),
        &path("data"),
        HIGH_BITS,
    )
    .unwrap();
    let expected = files(&theirs, trees);

    let comm_r_old = <PoseidonHasher as Hasher>::Function::hash2(&comm_c, &comm_r_last_old);
    let phi = phi(&comm_d, &comm_r_old);
    let factors: Vec<Node> = (0..1 << HIGH_BITS)
        .map(|high| rho(&phi, high).to_bytes_le())
        .collect();
    for kernel in kernels() {
        let ours = path(kernel.name());
        fs::create_dir(&ours).unwrap();
        let update = Update {
            shape: Shape {
                nodes: nodes as u64,
                layers: 11,
                sub_arity: Sub::U64,
                top_arity: Top::U64,
                rows_to_discard: rows_to_discard as u32,
            },
            cache_dir: &ours,
            key: &path("key"),
            data: &path("data"),
            comm_d: comm_d.into(),
            comm_c: comm_c.into(),
            factors: &factors,
            replica: &ours.join("replica"),
        };
        let engine = Engine { kernel, threads: 3 };
        let new = engine
            .update(&update, &mut |_, _| Ok(()), &mut |_| Ok(()))
            .unwrap();
        assert_eq!(new.comm_r_last, <[u8; 32]>::from(comm_r_last));
        assert_eq!(new.comm_r, <[u8; 32]>::from(comm_r));
        assert!(files(&ours, trees) == expected, "{}", kernel.name());
    }
}

#[test]
fn one_tree() {
    same_as_the_library::<U0, U0>(512);
}

#[test]
fn the_form_of_32_gib_eight_trees_under_a_root() {
    same_as_the_library::<U8, U0>(64);
    same_as_the_library::<U8, U0>(4096);
}

#[test]
fn the_form_of_64_gib_two_roots_of_eight_trees_under_a_root() {
    same_as_the_library::<U8, U2>(64);
    same_as_the_library::<U8, U2>(4096);
}
