//! The base trees of one of a sector's trees: some kept from an earlier run, others being made.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use poseidon::{Kernel, Node};
use sdr::layers::Checksum;

use crate::kept::{Entry, Kept};
use crate::pipeline::Look;
use crate::shape::{Rows, Shape, Span};
use crate::tree::Tree;

/// All base trees, in order.
pub struct Forest<'a> {
    kept: &'a Kept,
    /// Leaves of a base tree, and chunks.
    leaves: u64,
    chunks: u64,
    trees: Vec<Base>,
    /// Of what was read so far for the base tree that is being read.
    reading: Mutex<Vec<Checksum>>,
}

struct Base {
    /// Final name of the file.
    name: String,
    /// None for a tree that an earlier run finished.
    tree: Option<Tree>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    root: Option<Node>,
    /// Checksums of what the tree is made of.
    sources: Vec<String>,
    /// Whether an earlier run made the tree of other bytes than were read now.
    stale: bool,
}

impl<'a> Forest<'a> {
    /// Starts the base trees of the tree `stem` that are not kept. `look` is called every now and then;
    /// an error it returns ends it.
    pub fn create(
        shape: &Shape,
        stem: &str,
        rows: Rows,
        kept: &'a Kept,
        look: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let base = |index| {
            let name = shape.file_name(stem, index);
            let found = kept.find(&name, look)?;
            kept.clear(&name)?;
            let (tree, state) = match found {
                Some(entry) => {
                    let state = State {
                        root: Some(entry.root),
                        sources: entry.sources,
                        stale: false,
                    };
                    (None, state)
                }
                None => {
                    let path = kept.path(&name);
                    let tree = Tree::create(&path, rows, shape.base_nodes(), shape.chunk())?;
                    (Some(tree), State::default())
                }
            };
            let state = Mutex::new(state);
            Ok(Base { name, tree, state })
        };
        Ok(Forest {
            kept,
            leaves: shape.base_nodes(),
            chunks: shape.base_nodes() / shape.chunk(),
            trees: (0..shape.base_trees()).map(base).collect::<Result<_>>()?,
            reading: Mutex::default(),
        })
    }

    /// The work of the trees that are kept, where one tree is `work`.
    pub fn work_kept(&self, work: u64) -> u64 {
        self.trees.iter().filter(|base| base.tree.is_none()).count() as u64 * work
    }

    /// Whether the chunk of the whole sector with this number is missing in its tree.
    pub fn misses(&self, chunk: u64) -> bool {
        self.trees[(chunk / self.chunks) as usize].tree.is_some()
    }

    /// Notes what was read of each file for `span`, before any of its leaves is added. Spans come in
    /// order, all of them.
    pub fn note(&self, span: Span, parts: &[Vec<Node>]) {
        if !self.kept.records() {
            return;
        }
        let mut reading = lock(&self.reading);
        reading.resize_with(parts.len(), Checksum::default);
        for (checksum, part) in reading.iter_mut().zip(parts) {
            checksum.update(part.as_flattened());
        }
        let end = span.first + span.nodes;
        if end.is_multiple_of(self.leaves) {
            let sources = std::mem::take(&mut *reading);
            let sources = sources.iter().map(Checksum::hex).collect();
            let base = &self.trees[(end / self.leaves - 1) as usize];
            let mut state = lock(&base.state);
            state.stale = base.tree.is_none() && state.sources != sources;
            state.sources = sources;
        }
    }

    /// Adds the leaves of a chunk of the whole sector; a tree of which it is the last is finished.
    pub fn add(&self, kernel: Kernel, chunk: u64, leaves: &[Node], look: &Look<'_>) -> Result<()> {
        let base = &self.trees[(chunk / self.chunks) as usize];
        let Some(tree) = &base.tree else {
            return Ok(());
        };
        if tree.add(kernel, (chunk % self.chunks) as usize, leaves)? {
            let finished = tree.finish(kernel, look)?;
            let mut state = lock(&base.state);
            state.root = Some(finished.root);
            let entry = Entry {
                root: finished.root,
                checksum: finished.checksum,
                sources: state.sources.clone(),
            };
            self.kept.add(&base.name, entry)?;
        }
        Ok(())
    }

    /// Whether kept trees were made of other bytes than were read now, and found right: these trees are
    /// kept no longer.
    pub fn forget_stale(&self) -> Result<bool> {
        let stale = |base: &&Base| lock(&base.state).stale;
        let mut any = false;
        for base in self.trees.iter().filter(stale) {
            log::warn!(
                "{}: an earlier run made it of bytes that the disk gives no longer; it is made again",
                base.name
            );
            self.kept.forget(&base.name)?;
            any = true;
        }
        Ok(any)
    }

    /// Keeps none of the trees.
    pub fn forget_all(&self) -> Result<()> {
        self.trees
            .iter()
            .try_for_each(|base| self.kept.forget(&base.name))
    }

    /// The roots of all base trees, which are finished.
    pub fn roots(&self) -> Result<Vec<Node>> {
        let root = |base: &Base| {
            let root = lock(&base.state).root;
            root.with_context(|| format!("{}: the tree is not finished", base.name))
        };
        self.trees.iter().map(root).collect()
    }

    /// Gives every tree its final name.
    pub fn release(&self) -> Result<()> {
        self.trees
            .iter()
            .try_for_each(|base| self.kept.release(&base.name))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
