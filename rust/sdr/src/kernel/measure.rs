//! A short self-measurement: what a kernel achieves on this machine with how many lanes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::{advance, Kernel, Lane, LaneMemory};
use crate::arena::{Arena, Buffer, Pool, Shortage};
use crate::graph::{GraphSpec, GraphVersion, Parents, BASE_DEGREE, NODE_SIZE};
use crate::parents::ParentsCache;

/// Labels that parents are spread over, bytes: more than a core's own caches hold, so that waiting is measured
/// as well as the instructions. Lanes that the instructions are fast enough for may lose by it. More would be
/// nearer to real sectors, but takes longer to fill than to measure, and more memory than a small sector may.
const SIZE: usize = 64 << 20;
/// Nodes that one lane computes in a run.
const NODES: u32 = 1 << 11;
const RUNS: usize = 3;
/// More lanes cost each sector time: they must bring this much in total.
const WORTHWHILE: f64 = 1.03;
/// So many numbers of lanes in a row that bring nothing end the search. There may be many more lanes that
/// bring something again, but each is a sector's memory twice.
const PATIENCE: usize = 2;

/// What a number of lanes achieves together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    pub lanes: usize,
    pub labels_per_second: f64,
}

/// The sizes of groups that a kernel was measured with, in order, and how long it takes for one label of
/// each of so many lanes.
pub type Times = Vec<(usize, Duration)>;

/// What is measured on: the graph and labels of a sector of [`SIZE`], or less where memory is short.
///
/// All lanes read parents anywhere in the same labels, and write at the end of them, each to nodes of its
/// own, in every run others: what was read before is in the caches.
pub struct Ground {
    parents: Arc<ParentsCache>,
    labels: Buffer,
    /// The first node that no run has written to.
    next: u32,
}

impl Ground {
    /// Ground for as many runs as it takes to measure groups of `groups` lanes each.
    pub fn new(groups: impl Iterator<Item = usize>) -> Result<Self> {
        let written = (RUNS * groups.sum::<usize>()) as u32 * NODES;
        let arena = Arena::new(Pool::default(), Path::new("/sys"));
        // The least that all runs fit into twice.
        let least = (2 * written as usize * NODE_SIZE).next_power_of_two();
        let mut size = SIZE.max(least);
        let labels = loop {
            // Which pages it gets is told when it is a sector's.
            let labels = arena
                .allocate(size, None, size == least, &mut |_| ())
                .and_then(|labels| labels.populate(&mut |_, _| Ok(())).map(|()| labels));
            match labels {
                Err(error) if error.is::<Shortage>() && size > least => size /= 2,
                labels => break labels?,
            }
        };
        let spec = GraphSpec::new([0; 32], GraphVersion::V1_1, size as u64)?;
        let first = spec.nodes - written;
        let parents = ParentsCache::in_memory_from(spec, first, &mut |node, parents| {
            apart(node, parents, first, written);
        })?;
        Ok(Ground {
            parents: Arc::new(parents),
            labels,
            next: first,
        })
    }
}

/// Puts those `parents` of `node` that other lanes may be writing, at `first` or later, among the labels
/// before them. `written` nodes from there on are in runs of [`NODES`].
fn apart(node: u32, parents: &mut Parents, first: u32, written: u32) {
    let own = first + (node - first) / NODES * NODES;
    for (index, parent) in parents.iter_mut().enumerate() {
        let of_own_lane = index < BASE_DEGREE && *parent >= own;
        if *parent >= first && !of_own_lane {
            *parent -= written;
        }
    }
}

/// Measures the groups of `kernel` ([`Kernel::groups`]) on the calling thread, in some 50 ms.
pub fn measure(kernel: &dyn Kernel, ground: &mut Ground) -> Result<Times> {
    let groups = kernel.groups();
    let mut best = vec![Duration::MAX; groups.len()];
    for _ in 0..RUNS {
        for (lanes, best) in groups.iter().zip(&mut best) {
            *best = run(kernel, ground, *lanes)?.min(*best);
        }
    }
    let times = groups.iter().zip(best);
    Ok(times.map(|(lanes, time)| (*lanes, time / NODES)).collect())
}

/// The fewest lanes beyond which the next ones are not worthwhile.
pub fn best_lanes(measured: &[Throughput]) -> usize {
    let mut best = Throughput {
        lanes: 1,
        labels_per_second: 0.0,
    };
    for throughput in measured {
        if throughput.labels_per_second > best.labels_per_second * WORTHWHILE {
            best = *throughput;
        } else if throughput.lanes >= best.lanes + PATIENCE {
            break;
        }
    }
    best.lanes
}

/// CPU time that `lanes` lanes take for [`NODES`] nodes each.
fn run(kernel: &dyn Kernel, ground: &mut Ground, lanes: usize) -> Result<Duration> {
    let memory = LaneMemory {
        labels: ground.labels.as_ptr(),
        previous: ground.labels.as_ptr(),
    };
    let mut lanes: Vec<_> = (0..lanes as u32)
        .map(|lane| {
            // SAFETY: the buffer holds a label per node and outlives the lane. Its contents are any
            // labels, present before the first node of all lanes; no lane reads what another writes.
            unsafe {
                Lane::new(ground.parents.clone(), &[0; 32], 2, memory)
                    .starting_at(ground.next + lane * NODES)
            }
        })
        .collect();
    ground.next += lanes.len() as u32 * NODES;
    let mut lanes: Vec<_> = lanes.iter_mut().collect();
    let start = thread_time();
    advance(kernel, &mut lanes, NODES)?;
    Ok(thread_time() - start)
}

/// CPU time of the calling thread: on a busy machine, time in which it does not run must not count.
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is written by the call, which can't fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(labels_per_second: &[f64]) -> Vec<Throughput> {
        (1..)
            .zip(labels_per_second)
            .map(|(lanes, labels_per_second)| Throughput {
                lanes,
                labels_per_second: *labels_per_second,
            })
            .collect()
    }

    #[test]
    fn lanes_stop_where_they_bring_nothing() {
        assert_eq!(best_lanes(&measured(&[1.4, 2.6, 2.65, 2.6])), 2);
        assert_eq!(best_lanes(&measured(&[1.4, 2.6, 2.9, 3.2])), 4);
        assert_eq!(best_lanes(&measured(&[1.4, 1.3, 2.0, 2.0])), 3);
        assert_eq!(best_lanes(&measured(&[1.1, 1.4, 1.4, 1.4, 1.4, 2.6])), 2);
        assert_eq!(best_lanes(&measured(&[1.4])), 1);
    }

    #[test]
    fn every_group_of_every_kernel_is_measured() {
        for kernel in super::super::available() {
            let mut ground = Ground::new(kernel.groups().into_iter()).unwrap();
            let measured = measure(kernel.as_ref(), &mut ground).unwrap();
            let groups: Vec<_> = measured.iter().map(|(lanes, _)| *lanes).collect();
            assert_eq!(groups, kernel.groups());
            assert_eq!(groups.last(), Some(&kernel.max_lanes()));
            assert!(measured.iter().all(|(_, time)| !time.is_zero()));
        }
    }

    #[test]
    fn lanes_are_measured_with_parents_that_no_cache_holds() {
        let ground = Ground::new([1, 2, 3, 4].into_iter()).unwrap();
        let (nodes, first) = (ground.parents.spec().nodes, ground.next);
        assert!(nodes as usize * NODE_SIZE >= 64 << 20, "{nodes} nodes");
        let mut farthest = nodes;
        for node in first..nodes {
            let row = ground.parents.rows()[node as usize];
            let own = first + (node - first) / NODES * NODES;
            for (index, parent) in row.into_iter().enumerate() {
                let of_own_lane = index < BASE_DEGREE && (own..node).contains(&parent);
                assert!(parent < first || of_own_lane, "{parent} of {node}");
                farthest = farthest.min(parent);
            }
        }
        assert!(farthest < nodes / 1000, "{farthest}");
    }
}
