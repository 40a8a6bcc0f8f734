//! Making a parents cache file: several threads compute, one writes and digests in order.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Condvar, Mutex};
use std::thread;

use anyhow::{ensure, Context, Result};
use sha2::{Digest, Sha256};

use super::record::Record;
use super::{file_size, published, with_suffix, ROW_SIZE};
use crate::durable::{preallocate, sync_parent};
use crate::graph::{Graph, GraphSpec, Parents};
use crate::Report;

/// Nodes computed at a time by one thread: 896 KiB of rows.
const CHUNK: u32 = 1 << 14;

/// Makes the file at `path` under a temporary name, checks it against the published digest where
/// there is one, and gives it its name when it is on the disk.
pub fn generate(
    path: &Path,
    spec: GraphSpec,
    threads: usize,
    report: &mut Report<'_>,
) -> Result<()> {
    let partial = with_suffix(path, ".partial");
    let made = write_and_publish(path, &partial, spec, threads, report);
    if made.is_err() {
        let _ = fs::remove_file(&partial);
    }
    made
}

fn write_and_publish(
    path: &Path,
    partial: &Path,
    spec: GraphSpec,
    threads: usize,
    report: &mut Report<'_>,
) -> Result<()> {
    let file = File::create(partial).with_context(|| format!("create {}", partial.display()))?;
    preallocate(&file, partial, file_size(&spec))?;
    let digest = write_rows(&file, spec, threads, report)
        .with_context(|| format!("make parents cache {}", partial.display()))?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if let Some(published) = published::digest_of(name) {
        ensure!(
            digest == published,
            "parents cache {}: the generated file has SHA-256 {digest}, published is {published}; \
             it was not kept. Check this machine's memory and report this",
            path.display()
        );
    }
    file.sync_all()
        .with_context(|| format!("flush {}", partial.display()))?;
    fs::rename(partial, path)
        .with_context(|| format!("rename {} to {}", partial.display(), path.display()))?;
    sync_parent(path)?;
    Record::new(digest, &file)?.write(path)
}

/// How far the writer is; threads don't run further ahead than `ahead` chunks, so that memory stays
/// bounded.
struct Window {
    state: Mutex<WindowState>,
    moved: Condvar,
    ahead: u32,
}

struct WindowState {
    next: u32,
    written: u32,
    stopped: bool,
}

impl Window {
    /// The next chunk to compute; none when all are taken or the writer has stopped.
    fn take(&self, chunks: u32) -> Option<u32> {
        let state = self
            .state
            .lock()
            .expect("never poisoned: no panic while locked");
        let mut state = self
            .moved
            .wait_while(state, |state| {
                !state.stopped && state.next < chunks && state.next >= state.written + self.ahead
            })
            .expect("never poisoned: no panic while locked");
        if state.stopped || state.next >= chunks {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    /// Has all threads end.
    fn stop(&self) {
        self.update(|state| state.stopped = true);
    }

    fn update(&self, change: impl FnOnce(&mut WindowState)) {
        change(
            &mut self
                .state
                .lock()
                .expect("never poisoned: no panic while locked"),
        );
        self.moved.notify_all();
    }
}

/// Computes and writes all rows; returns their SHA-256 in hex.
fn write_rows(
    file: &File,
    spec: GraphSpec,
    threads: usize,
    report: &mut Report<'_>,
) -> Result<String> {
    let graph = Graph::new(spec);
    write_rows_of(file, spec, threads, report, &|node| graph.parents(node))
}

/// The same with the `parents` of each node.
fn write_rows_of(
    file: &File,
    spec: GraphSpec,
    threads: usize,
    report: &mut Report<'_>,
    parents: &(dyn Fn(u32) -> Parents + Sync),
) -> Result<String> {
    let threads = threads.max(1);
    let chunks = spec.nodes.div_ceil(CHUNK);
    let window = Window {
        state: Mutex::new(WindowState {
            next: 0,
            written: 0,
            stopped: false,
        }),
        moved: Condvar::new(),
        ahead: 4 * threads as u32,
    };
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let (sender, window) = (sender.clone(), &window);
                scope.spawn(move || compute(parents, spec.nodes, window, chunks, &sender))
            })
            .collect();
        drop(sender);
        let digest = write_in_order(file, spec, chunks, &window, &receiver, report);
        window.stop();
        for thread in threads {
            // A panic there was told when it happened, and is an error of the writer.
            let _ = thread.join();
        }
        digest
    })
}

/// Stops all threads when one of them panics: its chunk would be waited for for ever.
struct Stopping<'a>(&'a Window);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

fn compute(
    parents: &(dyn Fn(u32) -> Parents + Sync),
    nodes: u32,
    window: &Window,
    chunks: u32,
    sender: &Sender<(u32, Vec<u8>)>,
) {
    let _stopping = Stopping(window);
    while let Some(chunk) = window.take(chunks) {
        let first = chunk * CHUNK;
        let last = first.saturating_add(CHUNK).min(nodes);
        let mut rows = Vec::with_capacity((last - first) as usize * ROW_SIZE);
        for node in first..last {
            for parent in parents(node) {
                rows.extend_from_slice(&parent.to_le_bytes());
            }
        }
        if sender.send((chunk, rows)).is_err() {
            return;
        }
    }
}

fn write_in_order(
    mut file: &File,
    spec: GraphSpec,
    chunks: u32,
    window: &Window,
    receiver: &Receiver<(u32, Vec<u8>)>,
    report: &mut Report<'_>,
) -> Result<String> {
    let mut early = BTreeMap::new();
    let mut hash = Sha256::new();
    let mut written = 0;
    while written < chunks {
        let (chunk, rows) = receiver.recv().context("a computing thread ended early")?;
        early.insert(chunk, rows);
        while let Some(rows) = early.remove(&written) {
            hash.update(&rows);
            file.write_all(&rows)?;
            written += 1;
            window.update(|state| state.written = written);
        }
        let nodes = u64::from(spec.nodes);
        report((u64::from(written) * u64::from(CHUNK)).min(nodes), nodes)?;
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphVersion;

    #[test]
    fn a_panic_while_parents_are_computed_is_an_error() {
        let nodes = u64::from(40 * CHUNK);
        let spec = GraphSpec::new([0; 32], GraphVersion::V1_1, nodes * 32).unwrap();
        let parents = |node| {
            assert!(node < 9 * CHUNK, "this panic is part of a test");
            [0; 14]
        };
        let file = tempfile::tempfile().unwrap();
        for threads in [1, 3] {
            let error = write_rows_of(&file, spec, threads, &mut |_, _| Ok(()), &parents);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("thread ended early"), "{error}");
        }
    }
}
