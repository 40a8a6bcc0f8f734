//! Several kernels as one: whatever the number of lanes, they are hashed in the groups that a
//! measurement found to be fastest.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::measure::{measure, Ground, Throughput, Times};
use super::{chosen, Kernel, Lane};

/// Lanes hashed together, by one of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    kernel: usize,
    lanes: usize,
}

/// Kernels, and which of them hashes how many lanes at once.
pub struct Tuned {
    kernels: Vec<Box<dyn Kernel>>,
    /// For each number of lanes from one on, the first group; the rest is a smaller number of lanes.
    groups: Vec<Group>,
    name: String,
}

/// The times of the [`chosen`] kernels, once they were measured in this process, and their names.
static MEASURED: Mutex<Option<(Vec<String>, Vec<Times>)>> = Mutex::new(None);

impl Tuned {
    /// The kernels that this machine has the instructions for and that the environment allows, as one,
    /// and what each number of lanes achieves with it: measured at the first call, on the calling thread,
    /// in some 200 ms.
    pub fn for_this_machine() -> Result<(Self, Vec<Throughput>)> {
        let kernels = chosen()?;
        let names: Vec<_> = kernels
            .iter()
            .map(|kernel| kernel.name().to_owned())
            .collect();
        // A panic while it is locked leaves nothing half done.
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        let times = match &*measured {
            Some((of, times)) if *of == names => times.clone(),
            _ => measured.insert((names, measure_all(&kernels)?)).1.clone(),
        };
        drop(measured);
        Ok(Self::new(kernels, &times))
    }

    /// `kernels`, given the times of each.
    fn new(kernels: Vec<Box<dyn Kernel>>, times: &[Times]) -> (Self, Vec<Throughput>) {
        let (groups, throughputs) = combine(times);
        let used = |kernel: &usize| groups.iter().any(|group| group.kernel == *kernel);
        let names: Vec<_> = (0..kernels.len())
            .filter(used)
            .map(|kernel| kernels[kernel].name())
            .collect();
        let name = names.join(" and ");
        let tuned = Tuned {
            kernels,
            groups,
            name,
        };
        (tuned, throughputs)
    }
}

fn measure_all(kernels: &[Box<dyn Kernel>]) -> Result<Vec<Times>> {
    let groups = kernels.iter().flat_map(|kernel| kernel.groups());
    let mut ground = Ground::new(groups)?;
    kernels
        .iter()
        .map(|kernel| measure(kernel.as_ref(), &mut ground))
        .collect()
}

impl Kernel for Tuned {
    fn name(&self) -> &str {
        &self.name
    }

    fn max_lanes(&self) -> usize {
        self.groups.len()
    }

    unsafe fn label(&self, mut lanes: &mut [&mut Lane], count: u32) {
        while !lanes.is_empty() {
            let group = self.groups[lanes.len() - 1];
            let (first, rest) = lanes.split_at_mut(group.lanes);
            // SAFETY: the caller's contract, for some of its lanes.
            unsafe { self.kernels[group.kernel].label(first, count) };
            lanes = rest;
        }
    }
}

/// For each number of lanes the first group of the fastest way to hash them, and what that achieves, given
/// the times of each kernel.
fn combine(times: &[Times]) -> (Vec<Group>, Vec<Throughput>) {
    let measured = times.iter().flatten();
    let most = measured.map(|(lanes, _)| *lanes).max().unwrap_or(0);
    let mut groups = Vec::new();
    // Time for one label of each of so many lanes.
    let mut fastest = vec![Duration::ZERO];
    for lanes in 1..=most {
        let mut best = None;
        for (kernel, times) in times.iter().enumerate() {
            for group in 1..=lanes {
                // A group that was not measured takes no longer than the next larger one.
                let Some((_, time)) = times.iter().find(|(size, _)| *size >= group) else {
                    continue;
                };
                let total = *time + fastest[lanes - group];
                if best.is_none_or(|(_, best)| total < best) {
                    let group = Group {
                        kernel,
                        lanes: group,
                    };
                    best = Some((group, total));
                }
            }
        }
        let (group, total) = best.expect("each kernel was measured with its largest group");
        groups.push(group);
        fastest.push(total);
    }
    let throughputs = (1..=most).map(|lanes| Throughput {
        lanes,
        labels_per_second: lanes as f64 / fastest[lanes].as_secs_f64(),
    });
    (groups, throughputs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(nanoseconds: &[(usize, u64)]) -> Times {
        nanoseconds
            .iter()
            .map(|(lanes, time)| (*lanes, Duration::from_nanos(*time)))
            .collect()
    }

    fn sizes(groups: &[Group], mut lanes: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        while lanes > 0 {
            let group = groups[lanes - 1];
            found.push((group.kernel, group.lanes));
            lanes -= group.lanes;
        }
        found
    }

    #[test]
    fn few_lanes_go_in_pairs_and_many_in_lockstep() {
        let pairs = times(&[(1, 900), (2, 1400), (3, 2200)]);
        let lockstep = times(&[(16, 4800)]);
        let (groups, throughputs) = combine(&[pairs, lockstep]);
        assert_eq!(groups.len(), 16);
        assert_eq!(sizes(&groups, 1), [(0, 1)]);
        assert_eq!(sizes(&groups, 2), [(0, 2)]);
        assert_eq!(sizes(&groups, 6), [(0, 2), (0, 2), (0, 2)]);
        for lanes in 7..=16 {
            assert_eq!(sizes(&groups, lanes), [(1, lanes)]);
        }
        assert_eq!(throughputs[1].labels_per_second.round(), 1_428_571.0);
        assert_eq!(throughputs[15].labels_per_second.round(), 3_333_333.0);
    }

    #[test]
    fn every_number_of_lanes_is_hashed_whole() {
        let (groups, _) = combine(&[times(&[(1, 10), (2, 30)]), times(&[(2, 15), (4, 100)])]);
        for lanes in 1..=4 {
            let total: usize = sizes(&groups, lanes).iter().map(|(_, lanes)| lanes).sum();
            assert_eq!(total, lanes);
        }
        assert_eq!(sizes(&groups, 2), [(1, 2)]);
    }
}
