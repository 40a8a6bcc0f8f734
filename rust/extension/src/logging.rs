//! The crates' log for Python: lines wait in a bounded queue until a Python thread takes them.
//!
//! Who logs never waits: not for the GIL, not for a slow reader. When the queue is full, lines are
//! counted instead of kept, and the count is told once there is room.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

/// Lines kept for a reader that is busy.
const CAPACITY: usize = 4096;

/// Sealing thread, sector and stage that a line belongs to.
type Place = (u32, String, String);
/// Rank (1 is error, 5 is trace), target, text, seconds since 1970, place.
type Line = (usize, String, String, f64, Option<Place>);
/// Ranks by target prefix; the longest decides. The empty prefix stands for everything.
type Table = Vec<(String, usize)>;

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

static FORWARD: Forward = Forward {
    tables: RwLock::new(Vec::new()),
    queue: Mutex::new(Queue {
        lines: VecDeque::new(),
        left_out: 0,
        closed: false,
    }),
    filled: Condvar::new(),
};

struct Queue {
    lines: VecDeque<Line>,
    left_out: usize,
    closed: bool,
}

struct Forward {
    tables: RwLock<Vec<Table>>,
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Forward {
    /// A panic while the queue is locked leaves it as it was: nothing to distrust.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one of `tables` admits a line of `target` with `rank`.
fn admits(tables: &[Table], target: &str, rank: usize) -> bool {
    tables.iter().any(|table| {
        table
            .iter()
            .filter(|(prefix, _)| target.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .is_some_and(|(_, admitted)| rank <= *admitted)
    })
}

fn now() -> f64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0.0, |since| since.as_secs_f64())
}

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        admits(&tables, metadata.target(), metadata.level() as usize)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let place = PLACE
            .try_with(|place| place.borrow().clone())
            .unwrap_or_default();
        let mut queue = self.queue();
        if queue.closed {
            drop(queue);
            // Nobody reads any more. A closed stderr must not turn a line into a panic.
            let _ = writeln!(
                std::io::stderr(),
                "{} {}: {text}",
                record.level(),
                record.target()
            );
        } else if queue.lines.len() >= CAPACITY {
            queue.left_out += 1;
        } else {
            let target = record.target().to_owned();
            queue
                .lines
                .push_back((record.level() as usize, target, text, now(), place));
            self.filled.notify_one();
        }
    }

    fn flush(&self) {}
}

/// Keep lines that one of `tables` admits for take_log; another call puts other tables in force.
#[pyfunction]
fn forward_log(tables: Vec<Table>) {
    let most = tables.iter().flatten().map(|(_, rank)| *rank).max();
    *FORWARD
        .tables
        .write()
        .unwrap_or_else(PoisonError::into_inner) = tables;
    // A logger that is there already was set by whoever embeds this module, and stays.
    let _ = log::set_logger(&FORWARD);
    log::set_max_level(
        LevelFilter::iter()
            .nth(most.unwrap_or(0))
            .unwrap_or(LevelFilter::Trace),
    );
}

/// The lines that wait; with `wait` there is at least one, or None after close_log.
#[pyfunction]
#[pyo3(signature = (*, wait))]
fn take_log(py: Python<'_>, wait: bool) -> Option<Vec<Line>> {
    py.detach(|| {
        let mut queue = FORWARD.queue();
        while wait && queue.lines.is_empty() && !queue.closed {
            queue = FORWARD
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut lines = Vec::from(mem::take(&mut queue.lines));
        let left_out = mem::take(&mut queue.left_out);
        if left_out > 0 {
            let text = format!("{left_out} lines of the log came too fast and are left out");
            let target = module_path!().to_owned();
            lines.push((Level::Warn as usize, target, text, now(), None));
        }
        (!lines.is_empty() || !queue.closed).then_some(lines)
    })
}

/// End take_log; what is logged from now on goes straight to stderr.
#[pyfunction]
fn close_log() {
    FORWARD.queue().closed = true;
    FORWARD.filled.notify_all();
}

/// What this thread logs from now on belongs to (sealing thread, sector, stage), or to none.
#[pyfunction]
fn set_log_place(place: Option<Place>) {
    PLACE.set(place);
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(forward_log, m)?)?;
    m.add_function(wrap_pyfunction!(take_log, m)?)?;
    m.add_function(wrap_pyfunction!(close_log, m)?)?;
    m.add_function(wrap_pyfunction!(set_log_place, m)?)
}
