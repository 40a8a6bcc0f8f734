//! The engine: hashing threads, one per physical core, each with a number of lanes.
//!
//! A sector reserves a slot on the core with the fewest sectors, so sectors spread over the cores
//! first and share them afterwards, and runs its layers there as lanes that join and leave at any node.

mod hasher;
mod knobs;
mod queue;
mod slots;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure, Result};

use crate::arena::{Arena, Pool};
use crate::kernel::{available, best_lanes, Kernel, Lane, Portable, Throughput, Tuned, CHOICE};
use crate::topology::{allowed_cpus, cores, lock_core, pin_to, preferred_cores, Core};
use hasher::Hasher;
pub(crate) use hasher::Running;
use knobs::Knobs;
use queue::Queue;
pub(crate) use queue::Turn;
use slots::Slots;

/// Time between two looks at whether a waiting sector was cancelled.
pub(crate) const WAIT: Duration = Duration::from_millis(100);

/// Hashing threads and label memory, shared by all sectors of a process.
pub struct Engine {
    hashers: Vec<Hasher>,
    kernel: Arc<dyn Kernel>,
    lanes: usize,
    arena: Arena,
    slots: Mutex<Slots>,
    freed: Condvar,
    /// Sectors that wait for a slot.
    line: Queue,
    /// Sectors that have a slot and want label memory.
    memory_line: Queue,
    /// Sectors that have label memory.
    memory_holders: Arc<AtomicUsize>,
}

impl Engine {
    /// An engine on the CPUs that the calling thread may use, with as many lanes per core as a short
    /// measurement finds worthwhile, and the label memory pool that the environment names.
    ///
    /// Sectors get a core each while cores last, then share them. With `FIL_PROOFS_USE_MULTICORE_SDR=1`
    /// there are as many lanes per core as it takes to hash all sectors that come at once
    /// (`DAMOCLES_PC1_CONCURRENT`). With `FIL_PROOFS_DISABLE_NUMA=1` label memory is of any NUMA node.
    ///
    /// `say` receives what the user should know: fallbacks, and settings without effect.
    pub fn for_this_machine(say: &mut dyn FnMut(String)) -> Result<Self> {
        let system = Path::new("/sys");
        let cores = preferred_cores(system, cores(system, &allowed_cpus()?)?, say);
        let (kernel, measured) = measured_on_one_of(&cores, system)?;
        if kernel.name().contains(Portable.name()) {
            say(slow(available()[0].name() != Portable.name()));
        }
        let worthwhile = best_lanes(&measured);
        let knobs = Knobs::from_env(say);
        let lanes = knobs.lanes(cores.len(), worthwhile, kernel.max_lanes(), say);
        let mut arena = Arena::new(Pool::from_env(say), system);
        if knobs.any_node {
            arena = arena.ignoring_nodes();
        }
        Self::new(cores, Box::new(kernel), lanes, arena, say)
    }

    /// An engine with a pinned hashing thread on each of `cores`, and up to `lanes` sectors on each.
    pub fn new(
        cores: Vec<Core>,
        kernel: Box<dyn Kernel>,
        lanes: usize,
        arena: Arena,
        say: &mut dyn FnMut(String),
    ) -> Result<Self> {
        ensure!(
            (1..=kernel.max_lanes()).contains(&lanes),
            "{lanes} lanes per core: expected 1 to {}",
            kernel.max_lanes()
        );
        ensure!(!cores.is_empty(), "no core to hash on");
        let kernel: Arc<dyn Kernel> = kernel.into();
        let hashers = cores
            .iter()
            .cloned()
            .map(|core| Hasher::start(core, kernel.clone(), say))
            .collect::<Result<Vec<_>>>()?;
        Ok(Engine {
            slots: Mutex::new(Slots::new(cores, arena.system().to_owned())),
            hashers,
            kernel,
            lanes,
            arena,
            freed: Condvar::new(),
            line: Queue::default(),
            memory_line: Queue::default(),
            memory_holders: Arc::default(),
        })
    }

    /// Name of the kernel in use.
    pub fn kernel_name(&self) -> &str {
        self.kernel.name()
    }

    /// Most sectors at a time.
    pub fn capacity(&self) -> usize {
        self.hashers.len() * self.lanes
    }

    /// Lanes per core.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// The cores that are hashed on.
    pub fn cores(&self) -> impl Iterator<Item = &Core> {
        self.hashers.iter().map(Hasher::core)
    }

    /// Where label memory comes from.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// A slot on the core that shares the least with other sectors. While all are taken this waits,
    /// first come first served, and calls `waiting` ten times a second; an error it returns ends the wait.
    pub(crate) fn reserve(&self, waiting: &mut dyn FnMut() -> Result<()>) -> Result<Slot<'_>> {
        let _turn = self.line.turn(waiting)?;
        let mut slots = self.lock();
        loop {
            // A core whose thread has died of a defect takes no sectors any more.
            let alive = |core: usize| self.hashers[core].is_alive();
            if let Some(core) = slots.take(self.lanes, alive) {
                return Ok(Slot { engine: self, core });
            }
            if !(0..self.hashers.len()).any(alive) {
                return Err(anyhow!(
                    "every hashing thread has ended by a defect; start this process again"
                ));
            }
            let woken = self.freed.wait_timeout(slots, WAIT);
            drop(woken.expect("never poisoned: no panic while locked").0);
            waiting()?;
            slots = self.lock();
        }
    }

    /// Waits for the turn to take label memory: sectors that take it at the same time would each get a
    /// part of what they need. `waiting` as in [`Engine::reserve`].
    pub(crate) fn memory_turn(&self, waiting: &mut dyn FnMut() -> Result<()>) -> Result<Turn<'_>> {
        self.memory_line.turn(waiting)
    }

    /// Whether any sector has label memory, which it will give back.
    pub(crate) fn memory_is_held(&self) -> bool {
        self.memory_holders.load(Ordering::Acquire) > 0
    }

    /// Counts a sector as one that has label memory, until what is returned is dropped.
    pub(crate) fn hold_memory(&self) -> MemoryHolder {
        self.memory_holders.fetch_add(1, Ordering::AcqRel);
        MemoryHolder(self.memory_holders.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots
            .lock()
            .expect("never poisoned: no panic while locked")
    }
}

/// A sector that has label memory. It must be dropped after the memory.
pub(crate) struct MemoryHolder(Arc<AtomicUsize>);

impl Drop for MemoryHolder {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What to say when portable code hashes: because it was `chosen`, or for want of anything faster.
fn slow(chosen: bool) -> String {
    let why = if chosen {
        format!("{CHOICE}=portable keeps PC1 from the SHA instructions of this machine")
    } else {
        "this machine has no SHA instructions that PC1 can use".to_owned()
    };
    format!("{why}: the labels of a sector are computed several times slower, by portable code")
}

/// The kernel, and what each number of lanes achieves with it on a core like those that will hash: one on
/// which no other process hashes, if there is any.
fn measured_on_one_of(cores: &[Core], system: &Path) -> Result<(Tuned, Vec<Throughput>)> {
    let free = |core: &&Core| !matches!(lock_core(system, core), Ok(None));
    let core = cores.iter().find(free).or(cores.first());
    thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            if let Some(core) = core {
                // Where it can't be pinned, the hashing threads can't either and say so.
                let _ = pin_to(core.cpu);
            }
            Tuned::for_this_machine()
        });
        measuring
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the self-measurement of PC1 has ended by a defect")))
    })
}

/// A sector's place on a core, given back when dropped.
pub(crate) struct Slot<'a> {
    engine: &'a Engine,
    core: usize,
}

impl Slot<'_> {
    pub fn core(&self) -> &Core {
        self.engine.hashers[self.core].core()
    }

    /// Starts hashing a lane to the end of its layer.
    pub fn start(&self, lane: Lane) -> Running {
        self.engine.hashers[self.core].start_lane(lane)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.engine.lock().give_back(self.core);
        self.engine.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphSpec, GraphVersion};
    use crate::kernel::LaneMemory;
    use crate::parents::ParentsCache;

    fn engine(cores: usize, lanes: usize) -> Engine {
        engine_with(available().remove(0), cores, lanes)
    }

    fn engine_with(kernel: Box<dyn Kernel>, cores: usize, lanes: usize) -> Engine {
        let cores = vec![
            Core {
                cpu: allowed_cpus().unwrap()[0],
                node: None,
                cache: None,
            };
            cores
        ];
        let arena = Arena::new(Pool::default(), Path::new("/nowhere"));
        Engine::new(cores, kernel, lanes, arena, &mut |_| ()).unwrap()
    }

    #[test]
    fn sectors_spread_over_cores_before_they_share_one() {
        let engine = engine(3, 2);
        let mut go = || Ok(());
        let mut slots: Vec<_> = (0..6).map(|_| engine.reserve(&mut go).unwrap()).collect();
        let cores: Vec<_> = slots.iter().map(|slot| slot.core).collect();
        assert_eq!(cores, [0, 1, 2, 0, 1, 2]);
        slots.remove(4);
        assert_eq!(engine.reserve(&mut go).unwrap().core, 1);
    }

    #[test]
    fn a_waiting_sector_can_be_cancelled_and_leaves_no_trace() {
        let engine = engine(1, 1);
        let held = engine.reserve(&mut || Ok(())).unwrap();
        let error = engine
            .reserve(&mut || anyhow::bail!("enough"))
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "enough");
        drop(held);
        engine
            .reserve(&mut || anyhow::bail!("no need to wait"))
            .unwrap();
    }

    #[test]
    fn waiting_sectors_are_served_in_order() {
        let engine = engine(1, 1);
        let held = engine.reserve(&mut || Ok(())).unwrap();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (engine, order) = (&engine, &order);
                scope.spawn(move || {
                    let _slot = engine.reserve(&mut || Ok(())).unwrap();
                    order.lock().unwrap().push(number);
                });
                while engine.line.len() <= number {
                    std::thread::yield_now();
                }
            }
            drop(held);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_machine_without_sha_instructions_is_told_that_it_is_slow() {
        assert!(slow(false).starts_with("this machine has no SHA instructions"));
        assert!(slow(true).starts_with("DAMOCLES_PC1_KERNEL=portable keeps"));
        assert!([false, true]
            .map(slow)
            .iter()
            .all(|text| text.contains("several times slower")));
    }

    /// A kernel that dies of a defect.
    struct Broken;

    impl Kernel for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        fn max_lanes(&self) -> usize {
            1
        }

        unsafe fn label(&self, _: &mut [&mut Lane], _: u32) {
            panic!("this panic is part of a test");
        }
    }

    #[test]
    fn a_core_whose_thread_died_gets_no_more_sectors() {
        let engine = engine_with(Box::new(Broken), 2, 1);
        let spec = GraphSpec::new([0; 32], GraphVersion::V1_1, 2048).unwrap();
        let parents = Arc::new(ParentsCache::in_memory(spec).unwrap());
        let mut labels = [0; 2048];
        let memory = LaneMemory {
            labels: labels.as_mut_ptr(),
            previous: labels.as_ptr(),
        };
        let mut go = || Ok(());
        for core in [0, 1] {
            let slot = engine.reserve(&mut go).unwrap();
            assert_eq!(slot.core, core);
            // SAFETY: the buffer is as large as a layer, outlives the lane and is used by it alone.
            let lane = unsafe { Lane::new(parents.clone(), &[0; 32], 1, memory) };
            slot.start(lane).wait(Duration::from_secs(60)).unwrap_err();
            while engine.hashers[core].is_alive() {
                thread::yield_now();
            }
        }
        let error = engine.reserve(&mut go).err().unwrap().to_string();
        assert!(error.contains("start this process again"), "{error}");
    }
}
