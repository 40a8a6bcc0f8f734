//! Trees over data in chunks, each of which is read, hashed and written by one thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Result};

use crate::merkle::Node;

/// Longest time between two calls of `each`.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// The roots of `count` chunks, in order, by at most `most_threads` threads on the cores there are.
///
/// Each thread makes its `worker`, and calls it until it has no other chunk, fails, or `stopped` is set: by an
/// error, or because nobody waits for the rest. `each` is called on this thread with the index of a chunk
/// that is done, or without one when none was for a while; an error it returns ends the work.
pub fn roots_of_chunks<W: FnMut() -> Result<Option<(usize, Node)>>>(
    count: usize,
    most_threads: usize,
    stopped: &AtomicBool,
    worker: impl Fn() -> W + Sync,
    mut each: impl FnMut(Option<usize>) -> Result<()>,
) -> Result<Vec<Node>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let (sender, hashed) = mpsc::channel();
        for _ in 0..threads.min(most_threads).min(count) {
            let (sender, worker) = (sender.clone(), &worker);
            scope.spawn(move || {
                let mut next = worker();
                while !stopped.load(Ordering::Relaxed) {
                    let Some(hashed) = next().transpose() else {
                        return;
                    };
                    stopped.fetch_or(hashed.is_err(), Ordering::Relaxed);
                    if sender.send(hashed).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut collect = || {
            let mut roots = vec![Node::default(); count];
            let mut left = count;
            while left > 0 {
                match hashed.recv_timeout(PATIENCE) {
                    Ok(hashed) => {
                        let (index, root) = hashed?;
                        roots[index] = root;
                        left -= 1;
                        each(Some(index))?;
                    }
                    Err(RecvTimeoutError::Timeout) => each(None)?,
                    Err(RecvTimeoutError::Disconnected) => bail!("a hashing thread ended"),
                }
            }
            Ok(roots)
        };
        let roots = collect();
        stopped.store(true, Ordering::Relaxed);
        roots
    })
}
