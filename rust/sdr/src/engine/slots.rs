//! Which core a sector is hashed on.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::lock::Lock;
use crate::topology::{lock_core, Core};

/// Sectors per core of this process, and what is known of other processes'.
pub struct Slots {
    cores: Vec<Core>,
    /// Sectors on each core.
    held: Vec<usize>,
    /// The locks of cores with sectors, which keep other processes away while they have free ones.
    locks: Vec<Option<Lock>>,
    /// Cores with sectors where another process hashes too.
    shared: Vec<bool>,
    /// Where sysfs is.
    system: PathBuf,
}

impl Slots {
    pub fn new(cores: Vec<Core>, system: PathBuf) -> Self {
        Slots {
            held: vec![0; cores.len()],
            locks: cores.iter().map(|_| None).collect(),
            shared: vec![false; cores.len()],
            cores,
            system,
        }
    }

    /// Takes a place on one of the cores that are `usable` and have fewer than `lanes` sectors; none if
    /// there is no such core.
    ///
    /// Idle cores come first, those of the NUMA node with the fewest sectors first of all, then those of
    /// the last-level cache with the fewest: what sectors share slows them down. Idle cores that another
    /// process hashes on come after those with one sector of this process, whose lanes are hashed
    /// together.
    pub fn take(&mut self, lanes: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let on_node = self.beside(|core| core.node);
        let on_cache = self.beside(|core| core.cache);
        let mut free: Vec<usize> = (0..self.cores.len())
            .filter(|core| self.held[*core] < lanes && usable(*core))
            .collect();
        free.sort_by_key(|core| (self.held[*core], on_node[*core], on_cache[*core], *core));
        let core = match self.idle_everywhere(&free) {
            Some(core) => core,
            None => {
                // The first of equals: they stay in order.
                let core = free.into_iter().min_by_key(|core| self.load(*core))?;
                self.shared[core] |= self.held[core] == 0;
                core
            }
        };
        self.held[core] += 1;
        Some(core)
    }

    /// Sectors on a core that is not idle, with one of another process there counted, and whether there
    /// are none of this process.
    fn load(&self, core: usize) -> (usize, bool) {
        let held = self.held[core];
        let others = self.shared[core] || held == 0;
        (held + usize::from(others), held == 0)
    }

    /// The first of `cores` that nobody hashes on, which is then locked. One that can't be locked, as in
    /// containers that hide it, counts as idle.
    fn idle_everywhere(&mut self, cores: &[usize]) -> Option<usize> {
        let idle = cores.iter().copied().filter(|core| self.held[*core] == 0);
        for core in idle.collect::<Vec<_>>() {
            match lock_core(&self.system, &self.cores[core]) {
                Ok(None) => (),
                Ok(lock) => {
                    self.locks[core] = lock;
                    return Some(core);
                }
                Err(_) => return Some(core),
            }
        }
        None
    }

    /// Gives a place on a core back.
    pub fn give_back(&mut self, core: usize) {
        self.held[core] -= 1;
        if self.held[core] == 0 {
            self.locks[core] = None;
            self.shared[core] = false;
        }
    }

    /// For each core, the sectors on all cores with which it shares `what`.
    fn beside(&self, what: impl Fn(&Core) -> Option<u32>) -> Vec<usize> {
        let mut sectors: HashMap<Option<u32>, usize> = HashMap::new();
        for (core, held) in self.cores.iter().zip(&self.held) {
            *sectors.entry(what(core)).or_default() += held;
        }
        self.cores.iter().map(|core| sectors[&what(core)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Two nodes of four cores, two to a cache.
    fn two_nodes(system: &Path) -> Slots {
        let cores = (0..8).map(|cpu| Core {
            cpu,
            node: Some(cpu / 4),
            cache: Some(cpu / 2 * 2),
        });
        Slots::new(cores.collect(), system.to_owned())
    }

    fn taken(slots: &mut Slots, lanes: usize, count: usize) -> Vec<usize> {
        (0..count)
            .map_while(|_| slots.take(lanes, |_| true))
            .collect()
    }

    #[test]
    fn sectors_spread_over_nodes_then_caches_then_cores() {
        let mut slots = two_nodes(Path::new("/nowhere"));
        let found = taken(&mut slots, 2, 17);
        assert_eq!(found[..8], [0, 4, 2, 6, 1, 5, 3, 7]);
        assert_eq!(found[8..], [0, 4, 2, 6, 1, 5, 3, 7]);
        slots.give_back(6);
        assert_eq!(slots.take(2, |_| true), Some(6));
    }

    #[test]
    fn cores_that_are_not_usable_get_no_sectors() {
        let mut slots = two_nodes(Path::new("/nowhere"));
        assert_eq!(slots.take(1, |core| core == 7), Some(7));
        assert_eq!(slots.take(1, |core| core == 7), None);
    }

    /// Every process puts its first sector on the first core, unless it sees those of others.
    #[test]
    fn processes_without_a_cpuset_keep_off_each_others_cores() {
        let system = tempfile::tempdir().unwrap();
        for cpu in 0..8 {
            let dir = system
                .path()
                .join(format!("devices/system/cpu/cpu{cpu}/topology"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("thread_siblings_list"), format!("{cpu}\n")).unwrap();
        }
        let [mut one, mut other] = [(); 2].map(|()| two_nodes(system.path()));
        assert_eq!(taken(&mut one, 2, 3), [0, 4, 2]);
        assert_eq!(taken(&mut other, 2, 5), [1, 5, 3, 6, 7]);
        // None is idle: together with lanes of this process, before the cores of the other.
        assert_eq!(taken(&mut other, 2, 7), [1, 3, 5, 6, 7, 0, 2]);
        one.give_back(4);
        other.give_back(7);
        other.give_back(7);
        assert_eq!(one.take(2, |_| true), Some(4));
        assert_eq!(one.take(2, |_| true), Some(7));
    }
}
