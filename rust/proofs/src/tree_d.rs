//! tree_d: the binary tree over the staged data, as the file the proofs library reads: all rows
//! from the leaves up to the root, one behind the other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::chunks::roots_of_chunks;
use crate::control::Control;
use crate::direct::{Aligned, DirectFile};
use crate::durable::PartialFile;
use crate::failure::guarded;
use crate::merkle::{self, Node, NODE};
use crate::sector::{
    checked_size, require_dir, require_size, size_of, tree_d_size, NODE_SIZE, TREE_D_FILE,
};
use crate::tasks::TreeD;

/// Staged bytes that one thread reads, hashes and writes at a time: with their rows, what a core's own
/// cache holds.
const CHUNK: u64 = 1 << 20;
/// Bytes of a row that are written at a time where all its nodes are the same.
const ZEROS_PART: u64 = 8 << 20;
/// Threads at most, on machines with many cores: 2 MiB each, so less than 64 MiB in all.
const MOST_THREADS: usize = 24;

/// Builds `sc-02-data-tree-d.dat` in the task's cache directory from the staged file, replacing
/// what has that name (a link is replaced, not followed). The file appears when it is complete.
/// Memory: 2 MiB for each of the cores it may use, 24 at most, whatever the sector size. Progress is in
/// bytes of the staged file.
///
/// Errors: the directory is missing, the staged file is missing or not of the sector's size, I/O.
pub fn tree_d(task: &TreeD, control: &mut Control<'_>) -> Result<()> {
    guarded(|| {
        control.check()?;
        let sector_size = size_of(task.registered_proof);
        from_staged(sector_size, &task.staged_file, &task.cache_dir, control)
    })
}

/// [`tree_d`] of a staged file of `sector_size` bytes.
pub fn from_staged(
    sector_size: u64,
    staged_file: &Path,
    cache_dir: &Path,
    control: &mut Control<'_>,
) -> Result<()> {
    require_dir("cache directory", cache_dir)?;
    require_size("staged file", staged_file, sector_size)?;
    let staged = File::open(staged_file)
        .with_context(|| format!("open staged file {}", staged_file.display()))?;
    let partial = create(sector_size, cache_dir)?;
    let tree = DirectFile::new(&partial, tree_d_size(sector_size));

    let chunk_size = usize::try_from(CHUNK.min(sector_size))?;
    let chunks = Chunks {
        leaves: &staged,
        path: staged_file,
        count: usize::try_from(sector_size)? / chunk_size,
        zeros: vec![0; chunk_size],
        above_zeros: Subtree::over(&vec![0; chunk_size]),
        rows: row_offsets(sector_size),
        tree: &tree,
    };
    let mut roots = chunks.hash_all(control)?;

    // Above the chunks: rows small enough to hold.
    let mut level = chunk_size.ilog2() as usize - NODE_SIZE.ilog2() as usize;
    while roots.len() > 1 {
        let mut above = vec![Node::default(); roots.len() / 2];
        merkle::parents(roots.as_flattened(), above.as_flattened_mut());
        roots = above;
        level += 1;
        tree.write(roots.as_flattened(), chunks.rows[level])?;
    }
    partial.publish()?;
    control.finish(sector_size)
}

/// Root of the tree_d in a cache directory, or none if it isn't there with the size of the sector's
/// tree.
pub fn root(cache_dir: &Path, sector_size: u64) -> Result<Option<Node>> {
    let path = cache_dir.join(TREE_D_FILE);
    if require_size("tree_d", &path, tree_d_size(sector_size)).is_err() {
        return Ok(None);
    }
    let mut root = [0u8; NODE];
    File::open(&path)
        .and_then(|tree| tree.read_exact_at(&mut root, tree_d_size(sector_size) - NODE_SIZE))
        .with_context(|| format!("read {}", path.display()))?;
    Ok(Some(root))
}

/// A [`root`] for a message.
pub fn shown(root: Option<Node>) -> String {
    root.map_or_else(|| "missing".to_owned(), hex::encode)
}

/// Builds the tree_d of a sector of `sector_size` zero bytes in `dir`: the same for every sector
/// without deals.
pub fn static_tree_d(sector_size: u64, dir: &Path, control: &mut Control<'_>) -> Result<()> {
    guarded(|| {
        control.check()?;
        require_dir("directory", dir)?;
        let size = checked_size(sector_size)?;
        let partial = create(size, dir)?;
        let tree = DirectFile::new(&partial, tree_d_size(size));
        let mut part = Aligned::new(usize::try_from(ZEROS_PART.min(size / 2))?);
        // The leaves stay a hole of the file. All nodes of a row are the same.
        let mut node = Node::default();
        let mut row = size;
        for offset in &row_offsets(size)[1..] {
            node = merkle::parent([node, node].as_flattened());
            row /= 2;
            let wanted = part.bytes().len().min(usize::try_from(row)?);
            let (nodes, _) = part.bytes_mut().as_chunks_mut();
            nodes[..wanted / NODE].fill(node);
            for written in (0..row).step_by(wanted) {
                tree.write(&part.bytes()[..wanted], offset + written)?;
                control.step(size - 2 * row + written, size)?;
            }
        }
        partial.publish()?;
        control.finish(size)
    })
}

/// The file of a tree, without its name, of the size it will have.
fn create(sector_size: u64, dir: &Path) -> Result<PartialFile> {
    let path = dir.join(TREE_D_FILE);
    let partial = PartialFile::create(&path)?;
    partial
        .file
        .set_len(tree_d_size(sector_size))
        .with_context(|| format!("set size of {}", path.display()))?;
    Ok(partial)
}

/// The leaves of a tree in chunks, each of which is read, hashed and written by one thread.
struct Chunks<'a> {
    leaves: &'a File,
    path: &'a Path,
    count: usize,
    zeros: Vec<u8>,
    above_zeros: Subtree,
    /// File offset of each row of the tree.
    rows: Vec<u64>,
    tree: &'a DirectFile<'a>,
}

impl Chunks<'_> {
    /// Writes the rows from the leaves up to the roots of the chunks, and returns those, in order.
    fn hash_all(&self, control: &mut Control<'_>) -> Result<Vec<Node>> {
        let (next, size) = (AtomicUsize::new(0), self.zeros.len() as u64);
        let worker = || {
            let mut chunk = Aligned::new(self.zeros.len());
            let mut above = Subtree::new(self.zeros.len());
            let next = &next;
            move || {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.count {
                    return Ok(None);
                }
                Ok(Some((index, self.hash(index, &mut chunk, &mut above)?)))
            }
        };
        let mut done = 0;
        let stopped = AtomicBool::new(false);
        roots_of_chunks(self.count, MOST_THREADS, &stopped, worker, |hashed| {
            done += u64::from(hashed.is_some());
            control.step(done * size, self.count as u64 * size)
        })
    }

    fn hash(&self, index: usize, chunk: &mut Aligned, above: &mut Subtree) -> Result<Node> {
        let offset = (index * self.zeros.len()) as u64;
        self.leaves
            .read_exact_at(chunk.bytes_mut(), offset)
            .with_context(|| format!("read staged file {}", self.path.display()))?;
        let above = if chunk.bytes() == self.zeros {
            &self.above_zeros
        } else {
            // Zero leaves stay a hole of the file; only these are written.
            self.tree.write(chunk.bytes(), offset)?;
            above.hash(chunk.bytes());
            &*above
        };
        for (level, row) in (1..).zip(above.rows()) {
            self.tree.write(row, self.rows[level] + (offset >> level))?;
        }
        Ok(above.root())
    }
}

/// File offset of each row of the tree, leaves first.
fn row_offsets(sector_size: u64) -> Vec<u64> {
    let mut offsets = vec![0];
    let mut row = sector_size;
    while row > NODE_SIZE {
        offsets.push(offsets[offsets.len() - 1] + row);
        row /= 2;
    }
    offsets
}

/// The rows above one chunk of leaves, up to the chunk's root: one behind the other.
struct Subtree {
    rows: Aligned,
    leaves: usize,
}

impl Subtree {
    /// Room for the rows above `leaves` bytes.
    fn new(leaves: usize) -> Self {
        Subtree {
            rows: Aligned::new(leaves - NODE),
            leaves,
        }
    }

    /// The rows above `leaves`.
    fn over(leaves: &[u8]) -> Self {
        let mut subtree = Subtree::new(leaves.len());
        subtree.hash(leaves);
        subtree
    }

    fn hash(&mut self, leaves: &[u8]) {
        let (mut below, mut rest) = (leaves, self.rows.bytes_mut());
        while !rest.is_empty() {
            let (row, above) = rest.split_at_mut(below.len() / 2);
            merkle::parents(below, row);
            (below, rest) = (row, above);
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let (mut rest, mut row) = (self.rows.bytes(), self.leaves);
        std::iter::from_fn(move || {
            row /= 2;
            let (first, above) = rest.split_at_checked(row)?;
            rest = above;
            (!first.is_empty()).then_some(first)
        })
    }

    fn root(&self) -> Node {
        let rows = self.rows.bytes();
        rows[rows.len() - NODE..]
            .try_into()
            .expect("the last row is one node")
    }
}
