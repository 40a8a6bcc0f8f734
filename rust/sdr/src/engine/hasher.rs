//! A hashing thread: advances the lanes it has together, takes new ones and lets finished ones go.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};

use crate::kernel::{advance, Kernel, Lane};
use crate::topology::{pin_to, Core};

/// Most nodes hashed before lanes may join or leave: half a millisecond per lane, and 56 KiB of
/// parents that stay in the second-level cache after their check.
const STEP: u32 = 512;
/// Nodes whose labels fill a page.
const NODES_PER_PAGE: u32 = 128;
/// How far apart within a page lanes are kept: as far as there is room for.
const APART: [u32; 3] = [16, 8, 4];
/// Rows of parents that the kernel is asked to read ahead, and how often.
const READ_AHEAD: u32 = 1 << 17;

/// A hashing thread and the way to it. Dropped, it ends when its lanes have.
pub struct Hasher {
    core: Core,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
}

#[derive(Default)]
struct InboxState {
    lanes: Vec<Active>,
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state
            .lock()
            .expect("never poisoned: no panic while locked")
    }

    /// Moves the lanes that have come in to `arrived`; if `sleep`, waits until one does. False if there
    /// are none, which after sleeping means that no more will come.
    fn receive(&self, arrived: &mut Vec<Active>, sleep: bool) -> bool {
        let mut state = self.lock();
        if sleep {
            state = self
                .arrived
                .wait_while(state, |state| state.lanes.is_empty() && !state.closed)
                .expect("never poisoned: no panic while locked");
        }
        arrived.append(&mut state.lanes);
        !arrived.is_empty()
    }
}

/// An inbox that a thread empties. When the thread ends, by a panic too, lanes that wait there and
/// any that come are dropped, which their owners see.
struct Open(Arc<Inbox>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.lanes.clear();
    }
}

/// A lane on its hashing thread.
struct Active {
    lane: Box<Lane>,
    shared: Arc<Shared>,
    /// Receives when the lane has ended.
    ended: SyncSender<Result<Instant>>,
}

/// What a lane's owner and its hashing thread share.
struct Shared {
    node: AtomicU32,
    cancelled: AtomicBool,
}

/// A lane that is being hashed, seen by its owner. Dropped before its end it is cancelled; the drop
/// returns when the hashing thread no longer touches the lane's memory.
pub struct Running {
    shared: Arc<Shared>,
    ended: Receiver<Result<Instant>>,
    left: bool,
    reached: Option<Instant>,
}

impl Running {
    /// Nodes that have their labels, which may be read.
    pub fn node(&self) -> u32 {
        // Pairs with the release after the labels are written.
        self.shared.node.load(Ordering::Acquire)
    }

    /// When the lane reached the end of its layer; none before [`Running::wait`] has said so.
    pub fn reached_end(&self) -> Option<Instant> {
        self.reached
    }

    /// Waits for the lane to reach the end of its layer, `timeout` at most; whether it has.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        match self.ended.recv_timeout(timeout) {
            Ok(result) => {
                self.left = true;
                self.reached = Some(result?);
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => {
                self.left = true;
                Err(anyhow!(
                    "the hashing thread has ended by a defect (`panic at` in the log says where; please report it); \
                     resume, and another core takes the sector; a restart of the process brings this one back"
                ))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.left {
            self.shared.cancelled.store(true, Ordering::Relaxed);
            // Either answer means that the thread has let the lane go.
            let _ = self.ended.recv();
        }
    }
}

impl Hasher {
    /// Starts a thread pinned to `core`; where it can't be pinned, `say` is told.
    pub fn start(core: Core, kernel: Arc<dyn Kernel>, say: &mut dyn FnMut(String)) -> Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let (pinned, result) = sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("pc1-cpu{}", core.cpu))
            .spawn({
                let (inbox, cpu) = (inbox.clone(), core.cpu);
                move || {
                    let inbox = Open(inbox);
                    // The receiver waits below.
                    let _ = pinned.send(pin_to(cpu));
                    run(&inbox.0, kernel.as_ref());
                }
            })
            .context("start a hashing thread")?;
        if let Err(error) = result.recv()? {
            say(format!(
                "PC1 thread can't be pinned to CPU {}: {error}; the kernel places it",
                core.cpu
            ));
        }
        Ok(Hasher {
            core,
            inbox,
            thread: Some(thread),
        })
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Whether the thread takes lanes: not after a panic there.
    pub fn is_alive(&self) -> bool {
        !self.inbox.lock().closed
    }

    /// Hands a lane to the thread, which takes it in at its next step.
    pub fn start_lane(&self, lane: Lane) -> Running {
        let shared = Arc::new(Shared {
            node: AtomicU32::new(lane.node()),
            cancelled: AtomicBool::new(false),
        });
        let (ended, receiver) = sync_channel(1);
        let active = Active {
            lane: Box::new(lane),
            shared: shared.clone(),
            ended,
        };
        let mut state = self.inbox.lock();
        if !state.closed {
            state.lanes.push(active);
        }
        drop(state);
        self.inbox.arrived.notify_one();
        Running {
            shared,
            ended: receiver,
            left: false,
            reached: None,
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.inbox.lock().closed = true;
        self.inbox.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was told when it happened, and to the lanes' owners.
            let _ = thread.join();
        }
    }
}

/// The thread's life.
fn run(inbox: &Inbox, kernel: &dyn Kernel) {
    let mut active = Vec::new();
    let mut arrived = Vec::new();
    while inbox.receive(&mut arrived, active.is_empty()) || !active.is_empty() {
        for newcomer in arrived.drain(..) {
            let nodes: Vec<u32> = active
                .iter()
                .map(|active: &Active| active.lane.node())
                .collect();
            step(&mut active, kernel, apart(&nodes, newcomer.lane.node()));
            active.push(newcomer);
        }
        active.retain(|active| !active.shared.cancelled.load(Ordering::Relaxed));
        step(&mut active, kernel, STEP);
    }
}

/// Advances all lanes by `most` nodes, or fewer if one has fewer left, and lets finished ones go.
fn step(active: &mut Vec<Active>, kernel: &dyn Kernel, most: u32) {
    let left = active.iter().map(|active| active.lane.left()).min();
    let count = left.unwrap_or(0).min(most);
    read_ahead(active, count);
    let mut lanes: Vec<&mut Lane> = active.iter_mut().map(|active| &mut *active.lane).collect();
    if advance(kernel, &mut lanes, count).is_err() {
        active.retain(|active| match active.lane.check(count) {
            Ok(()) => true,
            Err(error) => active.leave(Err(error)),
        });
        return;
    }
    active.retain(|active| {
        active
            .shared
            .node
            .store(active.lane.node(), Ordering::Release);
        active.lane.left() > 0 || active.leave(Ok(()))
    });
}

/// By how many nodes lanes at `others` should move on before one at `newcomer` joins.
///
/// Label buffers are page-aligned, so lanes at equal nodes within a page would use the same sets of
/// the first-level cache all the way through a layer. Offsets between the buffers would do as well, but
/// not in files of exactly a sector's size, nor for writing past the page cache.
fn apart(others: &[u32], newcomer: u32) -> u32 {
    let clear = |apart: u32, ahead: u32| {
        others.iter().all(|other| {
            let distance = (other % NODES_PER_PAGE + ahead + NODES_PER_PAGE
                - newcomer % NODES_PER_PAGE)
                % NODES_PER_PAGE;
            distance.min(NODES_PER_PAGE - distance) >= apart
        })
    };
    APART
        .iter()
        .find_map(|apart| (0..NODES_PER_PAGE).find(|ahead| clear(*apart, *ahead)))
        .unwrap_or(0)
}

impl Active {
    /// Tells the owner how the lane ended. False: it isn't retained.
    fn leave(&self, result: Result<()>) -> bool {
        // The owner may have gone after cancelling.
        let _ = self.ended.send(result.map(|()| Instant::now()));
        false
    }
}

/// Has the parents of nodes to come read from the disk, for lanes that cross a boundary in this step.
fn read_ahead(active: &[Active], count: u32) {
    for active in active {
        let node = active.lane.node();
        if node % (READ_AHEAD / 2) < count {
            active.lane.will_need(READ_AHEAD);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::arena::{Arena, Pool};
    use crate::graph::{GraphSpec, GraphVersion};
    use crate::kernel::{available, LaneMemory};
    use crate::parents::ParentsCache;
    use crate::topology::allowed_cpus;

    use super::*;

    /// A kernel that fails as a defect would.
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
    fn a_panic_while_hashing_is_an_error_for_every_sector() {
        let core = Core {
            cpu: allowed_cpus().unwrap()[0],
            node: None,
            cache: None,
        };
        let hasher = Hasher::start(core, Arc::new(Broken), &mut |_| ()).unwrap();
        let spec = GraphSpec::new([0; 32], GraphVersion::V1_1, 2048).unwrap();
        let parents = Arc::new(ParentsCache::in_memory(spec).unwrap());
        let arena = Arena::new(Pool::default(), Path::new("/sys"));
        let buffer = arena.allocate(2048, None, false, &mut |_| ()).unwrap();
        for _ in 0..3 {
            let memory = LaneMemory {
                labels: buffer.as_ptr(),
                previous: buffer.as_ptr(),
            };
            // SAFETY: the buffer is as large as a layer, outlives the lane and is used by it alone.
            let lane = unsafe { Lane::new(parents.clone(), &[0; 32], 1, memory) };
            let mut running = hasher.start_lane(lane);
            let error = running.wait(Duration::from_secs(60)).unwrap_err();
            assert!(
                error.to_string().contains("hashing thread has ended"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_lane_ends_when_it_has_its_labels_and_not_when_its_owner_looks() {
        let core = Core {
            cpu: allowed_cpus().unwrap()[0],
            node: None,
            cache: None,
        };
        let kernel: Arc<dyn Kernel> = available().remove(0).into();
        let hasher = Hasher::start(core, kernel, &mut |_| ()).unwrap();
        let spec = GraphSpec::new([0; 32], GraphVersion::V1_1, 2048).unwrap();
        let parents = Arc::new(ParentsCache::in_memory(spec).unwrap());
        let mut labels = [0; 2048];
        let memory = LaneMemory {
            labels: labels.as_mut_ptr(),
            previous: labels.as_ptr(),
        };
        // SAFETY: the buffer is as large as a layer, outlives the lane and is used by it alone.
        let lane = unsafe { Lane::new(parents, &[0; 32], 1, memory) };
        let mut running = hasher.start_lane(lane);
        while running.node() < spec.nodes {
            thread::yield_now();
        }
        assert_eq!(running.reached_end(), None);
        thread::sleep(Duration::from_millis(200));
        let looked = Instant::now();
        assert!(running.wait(Duration::from_secs(60)).unwrap());
        let ended = running.reached_end().unwrap();
        assert!(looked - ended > Duration::from_millis(100));
    }

    #[test]
    fn lanes_are_kept_apart_within_a_page() {
        assert_eq!(apart(&[], 7), 0);
        assert_eq!(apart(&[0], 0), APART[0]);
        assert_eq!(apart(&[1_000_000 * NODES_PER_PAGE + 40], 3), 0);
        // The lane at 120 is just behind the newcomer at 0, the next is then in the way.
        assert_eq!(apart(&[120, 100], 0), 44);
        for others in [[0, 16, 32], [5, 64, 127], [10, 42, 74]] {
            let ahead = apart(&others, 50);
            for other in others {
                let distance = (other + ahead + NODES_PER_PAGE - 50) % NODES_PER_PAGE;
                assert!(
                    (APART[0]..=NODES_PER_PAGE - APART[0]).contains(&distance),
                    "{others:?} {ahead}"
                );
            }
        }
        // Sixteen lanes that come one after the other.
        let mut others: Vec<u32> = Vec::new();
        for _ in 0..16 {
            let ahead = apart(&others, 0);
            others.iter_mut().for_each(|other| *other += ahead);
            others.push(0);
        }
        let mut places: Vec<_> = others.iter().map(|other| other % NODES_PER_PAGE).collect();
        places.sort_unstable();
        assert!(
            places.windows(2).all(|pair| pair[1] - pair[0] >= APART[2]),
            "{places:?}"
        );
    }
}
