//! One thread reads, others compute, the caller's watches.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Result};

/// Longest time between two looks at whether to go on.
const LOOK: Duration = Duration::from_millis(50);

/// Takes what was read and the number of parts it is worked on in; fails when the work has stopped.
pub type Emit<'a, S> = dyn FnMut(S, usize) -> Result<()> + 'a;

/// Fails when the work has stopped: for what a worker does that may take seconds.
pub type Look<'a> = dyn Fn() -> Result<()> + 'a;

/// Runs `read` on one thread, which emits slabs in order, and `work` on each part of a slab on
/// `workers` others. A worker takes the next part when it has finished one; reading waits when every
/// worker has one more part to do.
///
/// `progress` is called on this thread with what `work` returned, and from time to time with 0. The
/// first error of any of the three ends it all and is returned; a panic too is passed on.
pub fn run<S: Send + Sync + 'static>(
    workers: usize,
    read: impl FnOnce(&mut Emit<'_, S>) -> Result<()> + Send,
    work: impl Fn(&S, usize, &Look<'_>) -> Result<u64> + Sync,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let stopped = AtomicBool::new(false);
    let (send_part, parts) = sync_channel::<(Arc<S>, usize)>(workers);
    let parts = Mutex::new(parts);
    let (send_result, results) = channel();
    thread::scope(|scope| {
        let send_read = send_result.clone();
        let (stopped, parts, work) = (&stopped, &parts, &work);
        let look = move || {
            ensure!(!stopped.load(Ordering::Relaxed), "the work has stopped");
            Ok(())
        };
        scope.spawn(move || {
            let mut emit = |slab: S, count: usize| {
                let slab = Arc::new(slab);
                for part in 0..count {
                    look()?;
                    send_part.send((slab.clone(), part))?;
                }
                Ok(())
            };
            let read = panic::catch_unwind(AssertUnwindSafe(|| read(&mut emit)));
            let _ = send_read.send(read.map(|result| result.map(|()| 0)));
        });
        for _ in 0..workers {
            let send_result = send_result.clone();
            scope.spawn(move || loop {
                let part = parts.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((slab, part)) = part else {
                    return;
                };
                // What was sent before the end is taken and left, so that the reader doesn't wait.
                if !stopped.load(Ordering::Relaxed) {
                    let done = panic::catch_unwind(AssertUnwindSafe(|| work(&slab, part, &look)));
                    let _ = send_result.send(done);
                }
            });
        }
        drop(send_result);

        let mut first_error = None;
        loop {
            let result = match results.recv_timeout(LOOK) {
                Ok(Ok(Ok(done))) => Ok(done),
                Ok(Ok(Err(error))) => Err(Ok(error)),
                Ok(Err(panic)) => Err(Err(panic)),
                Err(RecvTimeoutError::Timeout) => Ok(0),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if first_error.is_some() {
                continue;
            }
            let result = result.and_then(|done| progress(done).map_err(Ok));
            if let Err(error) = result {
                stopped.store(true, Ordering::Relaxed);
                first_error = Some(error);
            }
        }
        match first_error {
            None => Ok(()),
            Some(Ok(error)) => Err(error),
            Some(Err(panic)) => panic::resume_unwind(panic),
        }
    })
}
