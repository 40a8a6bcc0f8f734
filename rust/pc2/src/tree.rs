//! A base tree, put together from the chunks of its leaves.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use poseidon::{Kernel, Node};
use xxhash_rust::xxh3::Xxh3;

use crate::files::Unfinished;
use crate::hashing::rows_above;
use crate::pipeline::Look;
use crate::shape::{Rows, ARITY};

/// Bytes read at a time for a checksum.
const READ: usize = 1 << 20;

/// A base tree whose chunks come in any order, from any thread.
pub struct Tree {
    rows: Rows,
    /// Leaves in a chunk.
    chunk: u64,
    file: Unfinished,
    roots: Mutex<Roots>,
}

struct Roots {
    nodes: Vec<Node>,
    missing: usize,
}

/// A tree whose file is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub root: Node,
    /// XXH3 with 128 bits over the file, hex.
    pub checksum: String,
}

impl Tree {
    /// Starts the tree over `leaves` leaves whose file will be `path`.
    pub fn create(path: &Path, rows: Rows, leaves: u64, chunk: u64) -> Result<Self> {
        let chunks = usize::try_from(leaves / chunk)?;
        Ok(Tree {
            rows,
            chunk,
            file: Unfinished::create(path, rows.file_size())?,
            roots: Mutex::new(Roots {
                nodes: vec![Node::default(); chunks],
                missing: chunks,
            }),
        })
    }

    /// Adds chunk `index`. True for one caller: the one with the last chunk, who has to finish.
    pub fn add(&self, kernel: Kernel, index: usize, leaves: &[Node]) -> Result<bool> {
        let above = rows_above(kernel, leaves)?;
        let root = above.last().map_or(leaves, Vec::as_slice)[0];
        // The row of the chunks' roots is written with the rows above it.
        let rows = [leaves].into_iter().chain(above.iter().map(Vec::as_slice));
        for (row, nodes) in (0..).zip(rows.filter(|nodes| nodes.len() > 1)) {
            self.write(row, index * nodes.len(), nodes)?;
        }
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.nodes[index] = root;
        roots.missing -= 1;
        Ok(roots.missing == 0)
    }

    /// Makes the rows over the chunks, and puts the file on the disk under its name. An error of `look`,
    /// which is called every now and then, ends it before.
    pub fn finish(&self, kernel: Kernel, look: &Look<'_>) -> Result<Finished> {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.chunk.ilog(ARITY);
        self.write(first, 0, &roots.nodes)?;
        let above = rows_above(kernel, &roots.nodes)?;
        for (row, nodes) in (first + 1..).zip(&above) {
            self.write(row, 0, nodes)?;
        }
        let root = above.last().unwrap_or(&roots.nodes)[0];
        drop(roots);
        self.file.sync(&mut || look())?;
        let finished = Finished {
            root,
            checksum: checksum(self.file.file(), self.file.partial(), &mut || look())?,
        };
        look()?;
        self.file.publish()?;
        Ok(finished)
    }

    fn write(&self, row: u32, first: usize, nodes: &[Node]) -> Result<()> {
        match self.rows.offset(row) {
            Some(offset) => self
                .file
                .write(nodes, offset + (first * size_of::<Node>()) as u64),
            None => Ok(()),
        }
    }
}

/// The checksum of a whole tree file. `look` is called between reads; an error it returns is passed on as
/// it is.
pub fn checksum_of(path: &Path, look: &mut dyn FnMut() -> Result<()>) -> Result<String> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    checksum(&file, path, look)
}

fn checksum(file: &File, path: &Path, look: &mut dyn FnMut() -> Result<()>) -> Result<String> {
    let mut digest = Xxh3::new();
    let mut buffer = vec![0; READ];
    let mut offset = 0;
    loop {
        let read = file
            .read_at(&mut buffer, offset)
            .with_context(|| format!("read {}", path.display()))?;
        if read == 0 {
            return Ok(format!("{:032x}", digest.digest128()));
        }
        digest.update(&buffer[..read]);
        look()?;
        offset += read as u64;
    }
}
