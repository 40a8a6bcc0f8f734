//! CPU time and cycles of the calling thread: on a shared machine, time in which it does not run must
//! not count.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, RawFd};
use std::time::Duration;

/// A speed.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub labels_per_second: f64,
    /// None where the machine can't count cycles (most virtual ones).
    pub cycles_per_label: Option<f64>,
}

/// A running measurement.
pub struct Stopwatch {
    start: Duration,
    cycles: Option<File>,
}

impl Stopwatch {
    pub fn start() -> Self {
        let cycles = count_cycles();
        Stopwatch {
            start: thread_time(),
            cycles,
        }
    }

    /// CPU time since the start.
    pub fn elapsed(&self) -> Duration {
        thread_time() - self.start
    }

    /// The speed at which `labels` were computed since the start.
    pub fn finish(mut self, labels: f64) -> Measured {
        let seconds = self.elapsed().as_secs_f64();
        let mut count = [0; 8];
        let cycles = self
            .cycles
            .as_mut()
            .and_then(|file| file.read_exact(&mut count).ok())
            .map(|()| u64::from_ne_bytes(count) as f64);
        Measured {
            labels_per_second: labels / seconds,
            cycles_per_label: cycles.map(|cycles| cycles / labels),
        }
    }
}

fn thread_time() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of this process.
#[cfg(feature = "multicore")]
pub fn process_time() -> Duration {
    time_of(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is written by the call, which can't fail for these clocks.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The kernel's perf_event_attr as of its first version, which all later ones accept.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    sample: [u64; 3],
    flags: u64,
    rest: [u64; 2],
}

/// A counter of the calling thread's cycles in user space; none if the machine has none for us.
fn count_cycles() -> Option<File> {
    const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
    let event = PerfEvent {
        size: size_of::<PerfEvent>() as u32,
        flags: EXCLUDE_KERNEL_AND_HYPERVISOR,
        ..PerfEvent::default()
    };
    // SAFETY: the event is as large as it says; hardware event 0 is cycles, of this thread on any CPU.
    let descriptor = unsafe { libc::syscall(libc::SYS_perf_event_open, &event, 0, -1, -1, 0) };
    // SAFETY: a new descriptor that nobody else has.
    (descriptor >= 0).then(|| unsafe { File::from_raw_fd(descriptor as RawFd) })
}
