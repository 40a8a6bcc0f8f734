//! Kernels against the proofs crate's labels, and against plain SHA-256 at random lanes and offsets.

mod common;

use std::sync::Arc;

use common::{judge_graph, judge_layer, spec, Random};
use sdr::graph::{GraphSpec, GraphVersion, NODE_SIZE};
use sdr::kernel::{advance, available, Kernel, Lane, LaneMemory, Portable};
use sdr::parents::ParentsCache;

/// The kernels of this machine, the portable one in any case, and all of them as one.
fn kernels() -> Vec<Box<dyn Kernel>> {
    let mut kernels = available();
    for name in ["SHA-NI", "AVX-512"] {
        if kernels.iter().all(|kernel| kernel.name() != name) {
            common::skipped(&format!(
                "the {name} kernel: this machine has no such instructions"
            ));
        }
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = sdr::kernel::ShaNi::without_avx() {
        kernels.push(Box::new(kernel));
    }
    kernels.push(Box::new(Portable));
    kernels.push(common::kernel());
    kernels
}

/// A sector at some node of some layer, with the labels that the proofs crate computes there.
struct Sector {
    parents: Arc<ParentsCache>,
    replica_id: [u8; 32],
    layer: u32,
    previous: Vec<u8>,
    expected: Vec<u8>,
}

impl Sector {
    fn new(spec: GraphSpec, layer: u32, random: &mut Random) -> Self {
        let replica_id = random.field_element();
        let mut previous = vec![0; spec.layer_size() as usize];
        if layer > 1 {
            previous
                .chunks_exact_mut(NODE_SIZE)
                .for_each(|label| label.copy_from_slice(&random.field_element()));
        }
        let expected = judge_layer(&judge_graph(&spec), &replica_id, layer, &previous);
        Sector {
            parents: Arc::new(ParentsCache::in_memory(spec).unwrap()),
            replica_id,
            layer,
            previous,
            expected,
        }
    }

    /// A lane at the start of the layer; `labels` receives the layer.
    fn lane(&self, labels: &mut [u8]) -> Lane {
        assert_eq!(labels.len(), self.expected.len());
        let memory = LaneMemory {
            labels: labels.as_mut_ptr(),
            previous: self.previous.as_ptr(),
        };
        // SAFETY: both buffers hold a label per node and outlive the lane in every test.
        unsafe { Lane::new(self.parents.clone(), &self.replica_id, self.layer, memory) }
    }
}

fn small_spec(version: GraphVersion) -> GraphSpec {
    spec(5, version, 300 * NODE_SIZE as u64)
}

#[test]
fn layers_1_2_and_11_are_the_crates() {
    let mut random = Random(2);
    for version in [GraphVersion::V1_0, GraphVersion::V1_1] {
        for layer in [1, 2, 11] {
            let sector = Sector::new(small_spec(version), layer, &mut random);
            for kernel in kernels() {
                let mut labels = vec![0; sector.expected.len()];
                let mut lane = sector.lane(&mut labels);
                let left = lane.left();
                advance(kernel.as_ref(), &mut [&mut lane], left).unwrap();
                assert_eq!(lane.left(), 0);
                assert!(
                    labels == sector.expected,
                    "{} layer {layer} {version:?}",
                    kernel.name()
                );
            }
        }
    }
}

/// Lanes at different layers, graphs and nodes, in groups and steps of random sizes.
#[test]
fn lanes_that_join_and_leave_at_random_are_the_crates() {
    let mut random = Random(3);
    let sectors: Vec<Sector> = (0..40)
        .map(|number| {
            let version = [GraphVersion::V1_0, GraphVersion::V1_1][number % 2];
            let layer = [1, 2, 2, 7][random.below(4) as usize];
            Sector::new(small_spec(version), layer, &mut random)
        })
        .collect();
    for kernel in kernels() {
        let mut buffers: Vec<_> = sectors
            .iter()
            .map(|sector| vec![0; sector.expected.len()])
            .collect();
        let mut waiting: Vec<(usize, Lane)> = sectors
            .iter()
            .zip(&mut buffers)
            .map(|(sector, labels)| sector.lane(labels))
            .enumerate()
            .collect();
        let mut finished = Vec::new();
        while !waiting.is_empty() {
            let lanes = (1 + random.below(kernel.max_lanes() as u64) as usize).min(waiting.len());
            let mut group: Vec<_> = (0..lanes)
                .map(|_| waiting.swap_remove(random.below(waiting.len() as u64) as usize))
                .collect();
            let most = group.iter().map(|(_, lane)| lane.left()).min().unwrap();
            let count = 1 + random.below(u64::from(most)) as u32;
            let mut borrowed: Vec<_> = group.iter_mut().map(|(_, lane)| lane).collect();
            advance(kernel.as_ref(), &mut borrowed, count).unwrap();
            let (done, rest): (Vec<_>, Vec<_>) =
                group.into_iter().partition(|(_, lane)| lane.left() == 0);
            finished.extend(done.into_iter().map(|(number, _)| number));
            waiting.extend(rest);
        }
        assert_eq!(finished.len(), sectors.len());
        for (number, (sector, labels)) in sectors.iter().zip(&buffers).enumerate() {
            assert!(
                *labels == sector.expected,
                "{} sector {number}",
                kernel.name()
            );
        }
    }
}

#[test]
fn parents_out_of_bounds_are_refused_before_any_label() {
    let mut random = Random(4);
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(10, GraphVersion::V1_1, 2048);
    let mut sector = Sector::new(spec, 2, &mut random);
    let open =
        || ParentsCache::obtain(dir.path(), spec, 1, &mut |_, _| Ok(()), &mut |_| ()).unwrap();
    let path = open().path().to_owned();
    // Damage that the digest can't see, because the file is changed after it was opened.
    for (node, column, parent) in [(9, 5, 9), (9, 13, 64)] {
        std::fs::remove_file(&path).unwrap();
        sector.parents = Arc::new(open());
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&u32::to_le_bytes(parent), (node * 14 + column) * 4)
            .unwrap();

        let kernel = available().remove(0);
        let mut labels = vec![0; sector.expected.len()];
        let mut lane = sector.lane(&mut labels);
        advance(kernel.as_ref(), &mut [&mut lane], 9).unwrap();
        let error = advance(kernel.as_ref(), &mut [&mut lane], 5)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("node 9 are not those of the graph"),
            "{error}"
        );
        assert_eq!(lane.node(), 9);
        assert!(labels[9 * NODE_SIZE..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn more_nodes_than_are_left_are_refused() {
    let sector = Sector::new(small_spec(GraphVersion::V1_1), 1, &mut Random(5));
    let mut labels = vec![0; sector.expected.len()];
    let mut lane = sector.lane(&mut labels);
    assert!(advance(&Portable, &mut [&mut lane], 301).is_err());
}
