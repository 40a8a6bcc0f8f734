//! PC2 of a sector, by the library and by each kernel.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Result};
use filecoin_hashers::poseidon::PoseidonHasher;
use filecoin_hashers::sha256::Sha256Hasher;
use filecoin_proofs::types::StoreConfig;
use memmap2::MmapMut;
use pc2::{Engine, Sector, Shape, TREE_C, TREE_R_LAST};
use poseidon::{Kernel, Node};
use storage_proofs_core::api_version::ApiVersion;
use storage_proofs_core::cache_key::CacheKey;
use storage_proofs_core::drgraph::BASE_DEGREE;
use storage_proofs_core::merkle::{create_base_merkle_tree, BinaryMerkleTree, LCTree};
use storage_proofs_core::proof::ProofScheme;
use storage_proofs_core::util::default_rows_to_discard;
use storage_proofs_porep::stacked::{Challenges, Labels, SetupParams, StackedDrg, EXP_DEGREE};
use typenum::{U0, U8};

use crate::{cpu_time, hashes};

type Tree = LCTree<PoseidonHasher, U8, U0, U0>;
type Drg<'a> = StackedDrg<'a, Tree, Sha256Hasher>;

/// CPU time of one PC2.
pub struct Row {
    pub library: Duration,
    /// One for each kernel.
    pub ours: Vec<Duration>,
}

/// Everybody's PC2 of the same sector of one base tree; all must come to the same comm_r.
pub fn compare(nodes: usize, layers: usize, kernels: &[Kernel]) -> Result<Row> {
    let dir = tempfile::tempdir()?;
    let cache = dir.path();
    let replica = cache.join("replica");
    let data: Vec<Node> = (0..nodes).map(hashes::node).collect();
    fs::write(&replica, data.as_flattened())?;
    for layer in 1..=layers {
        let labels: Vec<Node> = (0..nodes)
            .map(|i| hashes::node(layer * nodes + i))
            .collect();
        fs::write(
            cache.join(format!("sc-02-data-layer-{layer}.dat")),
            labels.as_flattened(),
        )?;
    }

    let (comm_r, comm_d, library) = by_library(nodes, layers, cache, &replica)?;
    let shape = Shape {
        nodes: nodes as u64,
        layers: layers as u32,
        sub_arity: 0,
        top_arity: 0,
        rows_to_discard: default_rows_to_discard(nodes, 8) as u32,
    };
    let mut ours = Vec::new();
    for kernel in kernels {
        for stem in [TREE_C, TREE_R_LAST] {
            fs::remove_file(cache.join(format!("{stem}.dat")))?;
        }
        let engine = Engine {
            kernel: *kernel,
            threads: thread::available_parallelism()?.get(),
        };
        let sector = Sector {
            shape,
            cache_dir: cache,
            data: &cache.join("sc-02-data-tree-d.dat"),
            comm_d,
            replica: &replica,
        };
        let start = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID);
        let commitments = engine.run(&sector, &mut |_, _| Ok(()), &mut |_| Ok(()))?;
        ours.push(cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID) - start);
        ensure!(
            commitments.comm_r == comm_r,
            "another comm_r than the library's"
        );
    }
    Ok(Row { library, ours })
}

/// comm_r, comm_d and the CPU time of the library's PC2, without that of tree_d.
fn by_library(
    nodes: usize,
    layers: usize,
    cache: &Path,
    replica: &Path,
) -> Result<(Node, Node, Duration)> {
    let parameters = Drg::setup(&SetupParams {
        nodes,
        degree: BASE_DEGREE,
        expansion_degree: EXP_DEGREE,
        porep_id: [5; 32],
        challenges: Challenges::new_interactive(1),
        num_layers: layers,
        api_version: ApiVersion::V1_2_0,
        api_features: vec![],
    })?;
    let labels = (1..=layers).map(|layer| StoreConfig {
        size: Some(nodes),
        ..StoreConfig::new(cache, CacheKey::label_layer(layer), 0)
    });
    let file = File::options().read(true).write(true).open(replica)?;
    // SAFETY: nobody else writes to the file while it is mapped.
    let mut mapped = unsafe { MmapMut::map_mut(&file) }?;
    let tree_d = create_base_merkle_tree::<BinaryMerkleTree<Sha256Hasher>>(
        Some(StoreConfig::new(cache, CacheKey::CommDTree.to_string(), 0)),
        nodes,
        &mapped,
    )?;
    let start = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID);
    let (tau, _) = Drg::replicate_phase2(
        &parameters,
        Labels::new(labels.collect()),
        mapped.as_mut().into(),
        Some(tree_d),
        cache.to_owned(),
        replica.to_owned(),
    )?;
    let time = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID) - start;
    Ok((tau.comm_r.into(), tau.comm_d.into(), time))
}
