//! The proofs crate as the judge: its graph and its labels for the same spec.

#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use filecoin_hashers::poseidon::PoseidonHasher;
use sdr::arena::{Arena, Pool};
use sdr::graph::{GraphSpec, GraphVersion, BASE_DEGREE, EXP_DEGREE};
use sdr::kernel::{Kernel, Tuned};
use sdr::parents::ParentsCache;
use sdr::topology::{allowed_cpus, Core};
use sdr::{label_sector, Engine, Outcome, Sector, Watch};
use storage_proofs_core::api_version::ApiVersion;
use storage_proofs_core::drgraph::Graph as _;
use storage_proofs_porep::stacked::create_label::single::{create_label, create_label_exp};
use storage_proofs_porep::stacked::StackedBucketGraph;

pub type JudgeGraph = StackedBucketGraph<PoseidonHasher>;

/// The sector sizes with published proof types, with the number of each one's V1 type; V1_1 is 5
/// more, synthetic 10, non-interactive 15.
pub const SIZES: [(u64, u64); 5] = [
    (2 << 10, 0),
    (8 << 20, 1),
    (512 << 20, 2),
    (32 << 30, 3),
    (64 << 30, 4),
];

/// The specs of all four proof types of a size: V1, V1_1, synthetic, non-interactive.
pub fn specs(sector_size: u64) -> Vec<GraphSpec> {
    let (_, number) = SIZES
        .into_iter()
        .find(|(size, _)| *size == sector_size)
        .unwrap();
    [
        (number, GraphVersion::V1_0),
        (number + 5, GraphVersion::V1_1),
        (number + 10, GraphVersion::V1_1),
        (number + 15, GraphVersion::V1_1),
    ]
    .into_iter()
    .map(|(number, version)| spec(number, version, sector_size))
    .collect()
}

/// The spec of the proof type `number`, for any sector size.
pub fn spec(number: u64, version: GraphVersion, sector_size: u64) -> GraphSpec {
    let mut porep_id = [0; 32];
    porep_id[..8].copy_from_slice(&number.to_le_bytes());
    GraphSpec::new(porep_id, version, sector_size).unwrap()
}

pub fn judge_graph(spec: &GraphSpec) -> JudgeGraph {
    let version = match spec.version {
        GraphVersion::V1_0 => ApiVersion::V1_0_0,
        GraphVersion::V1_1 => ApiVersion::V1_1_0,
    };
    JudgeGraph::new_stacked(
        spec.nodes as usize,
        BASE_DEGREE,
        EXP_DEGREE,
        spec.porep_id,
        version,
    )
    .unwrap()
}

pub fn judge_parents(graph: &JudgeGraph, node: u32) -> sdr::graph::Parents {
    let mut parents = [0; sdr::graph::DEGREE];
    graph.parents(node as usize, &mut parents).unwrap();
    parents
}

/// A small deterministic generator for test data (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Random bytes whose last two bits are clear, as a replica id's are.
    pub fn field_element(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes[31] &= 0x3f;
        bytes
    }
}

/// A layer as the crate's single-core path labels it.
pub fn judge_layer(
    graph: &JudgeGraph,
    replica_id: &[u8; 32],
    layer: u32,
    previous: &[u8],
) -> Vec<u8> {
    let mut labels = vec![0; previous.len()];
    for node in 0..graph.size() {
        let layer = layer as usize;
        if layer == 1 {
            create_label(graph, None, replica_id, &mut labels, layer, node).unwrap();
        } else {
            create_label_exp(graph, None, replica_id, previous, &mut labels, layer, node).unwrap();
        }
    }
    labels
}

/// All layers of a sector as the crate labels it.
pub fn judge_layers(spec: &GraphSpec, replica_id: &[u8; 32], layers: u32) -> Vec<Vec<u8>> {
    let graph = judge_graph(spec);
    let mut all: Vec<Vec<u8>> = Vec::new();
    for layer in 1..=layers {
        let empty = vec![0; spec.layer_size() as usize];
        let labels = judge_layer(&graph, replica_id, layer, all.last().unwrap_or(&empty));
        all.push(labels);
    }
    all
}

/// What the engine hashes with on this machine.
pub fn kernel() -> Box<dyn Kernel> {
    Box::new(Tuned::for_this_machine().unwrap().0)
}

/// Writes a file below `root`, with its directories.
pub fn write(root: &Path, path: impl AsRef<Path>, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The sysfs of a machine with two NUMA nodes of four cores, two CPUs per core numbered as on bare
/// metal (n and n + 8), two cores to an L3 cache, and 64 huge pages of 1 GiB per node, most of node 0's in use.
pub fn epyc_two_nodes() -> tempfile::TempDir {
    let system = tempfile::tempdir().unwrap();
    for cpu in 0..16 {
        let list = format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        write(
            system.path(),
            list,
            &format!("{},{}\n", cpu % 8, cpu % 8 + 8),
        );
        let first = cpu % 8 / 2 * 2;
        for (index, level, shared) in [
            (0, 1, format!("{},{}\n", cpu % 8, cpu % 8 + 8)),
            (
                3,
                3,
                format!("{first}-{},{}-{}\n", first + 1, first + 8, first + 9),
            ),
        ] {
            let cache = format!("devices/system/cpu/cpu{cpu}/cache/index{index}");
            write(
                system.path(),
                format!("{cache}/level"),
                &format!("{level}\n"),
            );
            write(system.path(), format!("{cache}/shared_cpu_list"), &shared);
        }
    }
    for (node, cpus, free) in [(0, "0-3,8-11\n", "10\n"), (1, "4-7,12-15\n", "64\n")] {
        let dir = format!("devices/system/node/node{node}");
        write(system.path(), format!("{dir}/cpulist"), cpus);
        for (size, total, free) in [("1048576", "64\n", free), ("2048", "0\n", "0\n")] {
            let pages = format!("{dir}/hugepages/hugepages-{size}kB");
            write(system.path(), format!("{pages}/nr_hugepages"), total);
            write(system.path(), format!("{pages}/free_hugepages"), free);
        }
    }
    system
}

/// Says why a test does nothing here. Not with `println`, which is shown for failing tests only.
pub fn skipped(why: &str) {
    use std::io::Write;
    std::io::stderr()
        .write_all(format!("skipped: {why}\n").as_bytes())
        .unwrap();
}

/// An engine on so many cores, which may be the same CPU.
pub fn engine(cores: usize, lanes: usize) -> Engine {
    let cpus = allowed_cpus().unwrap();
    let cores = (0..cores)
        .map(|core| Core {
            cpu: cpus[core % cpus.len()],
            node: None,
            cache: None,
        })
        .collect();
    let arena = Arena::new(Pool::default(), Path::new("/sys"));
    Engine::new(cores, kernel(), lanes, arena, &mut |_| ()).unwrap()
}

/// A sector with a random replica id.
pub fn sector(spec: GraphSpec, layers: u32, random: &mut Random) -> Sector {
    Sector {
        parents: Arc::new(ParentsCache::in_memory(spec).unwrap()),
        replica_id: random.field_element(),
        layers,
    }
}

/// Labels without interruption; returns the outcome and what was said.
pub fn label(engine: &Engine, sector: &Sector, dir: &Path) -> (Outcome, Vec<String>) {
    let mut said = Vec::new();
    let mut watch = Watch {
        progress: &mut |_| Ok(()),
        say: &mut |text| said.push(text),
    };
    let outcome = label_sector(engine, sector, dir, &mut watch).unwrap();
    (outcome, said)
}

/// Where a layer is, as the crate names it.
pub fn layer_path(dir: &Path, layer: u32) -> std::path::PathBuf {
    dir.join(format!("sc-02-data-layer-{layer}.dat"))
}

/// Compares the layer files in a directory, where nothing unfinished may be left.
pub fn assert_layers(dir: &Path, expected: &[Vec<u8>]) {
    for (layer, expected) in (1..).zip(expected) {
        assert!(
            fs::read(layer_path(dir, layer)).unwrap() == *expected,
            "layer {layer}"
        );
    }
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.ends_with(".partial")));
}
