//! The second pass: the replica, and tree_r_last over it.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{bail, Context, Result};
use field::canonical;
use poseidon::Node;
use sdr::kernel::parents;

use crate::encoding::Encoding;
use crate::files::{forget, read_nodes, Unfinished};
use crate::forest::Forest;
use crate::pipeline;
use crate::shape::{slabs, tree_work, Shape, NODE};
use crate::source::Source;
use crate::{Engine, Work};

/// Makes a replica and tree_r_last.
pub struct Replica<'a> {
    pub engine: &'a Engine,
    pub shape: &'a Shape,
    pub forest: &'a Forest<'a>,
    pub data: &'a Data<'a>,
    pub encoding: Encoding<'a>,
    /// Where the replica comes to be.
    pub path: &'a Path,
}

/// The data of a sector: the leaves of tree_d.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// A file that begins with them.
    pub path: &'a Path,
    /// Their root.
    pub comm_d: Node,
}

/// Nodes of the key and data for some chunks.
struct Slab {
    first_chunk: u64,
    /// Key and data.
    nodes: [Vec<Node>; 2],
}

/// The work in one base tree, and in the part of the replica under it.
pub fn work(shape: &Shape) -> u64 {
    tree_work(shape.base_nodes())
}

impl Replica<'_> {
    /// Writes all of the replica, also where the tree over it is kept. It is on the disk when this
    /// returns, but does not have its name yet.
    ///
    /// Fails if `key` or the data is not what it should be; then no tree that was made here is kept.
    pub fn run(&self, key: &mut Source, work: &mut Work<'_, '_>) -> Result<Unfinished> {
        let Replica {
            engine,
            shape,
            forest,
            data,
            ..
        } = self;
        let replica = Unfinished::create(self.path, shape.size())?;
        let origin = key.origin.clone();
        let chunk = shape.chunk() as usize;
        let work_of_chunk = self::work(shape) / (shape.base_nodes() / shape.chunk());
        let roots = vec![Node::default(); usize::try_from(shape.nodes / shape.chunk())?];
        let roots = Mutex::new(roots);
        pipeline::run(
            engine.threads,
            |emit| {
                let file = File::open(data.path)
                    .with_context(|| format!("open tree_d {}", data.path.display()))?;
                for slab in slabs(shape) {
                    let nodes = [
                        key.read(slab.first, slab.nodes)?,
                        read_nodes(&file, data.path, slab.first, slab.nodes)?,
                    ];
                    forget(&file, slab.first * NODE, slab.nodes * NODE);
                    forest.note(slab, &nodes);
                    let chunks = usize::try_from(slab.nodes / shape.chunk())?;
                    let first_chunk = slab.first / shape.chunk();
                    emit(Slab { first_chunk, nodes }, chunks)?;
                }
                Ok(())
            },
            |slab, part, look| {
                let nodes = part * chunk..(part + 1) * chunk;
                let number = slab.first_chunk + part as u64;
                let first = number * shape.chunk();
                let [key, data] = slab.nodes.each_ref().map(|all| &all[nodes.clone()]);
                let foreign = |nodes: &[Node]| {
                    let found = nodes.iter().position(|node| !canonical::is_element(node));
                    found.map(|index| first + index as u64)
                };
                if let Some(node) = foreign(data) {
                    bail!(
                        "tree_d {}: node {node} is no field element, expected fr32 padded data",
                        self.data.path.display()
                    );
                }
                if let Some(node) = foreign(key) {
                    return Err(origin.foreign(node));
                }
                let root = root_of(data);
                roots.lock().unwrap_or_else(PoisonError::into_inner)[number as usize] = root;
                let mut leaves = key.to_vec();
                self.encoding.encode(first, &mut leaves, data);
                replica.write(&leaves, first * NODE)?;
                if !forest.misses(number) {
                    return Ok(0);
                }
                forest.add(engine.kernel, number, &leaves, look)?;
                Ok(work_of_chunk)
            },
            &mut |done| work.add(done),
        )?;
        key.verify()?;
        let roots = roots.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = data.require(root_of(&roots)) {
            forest.forget_all()?;
            return Err(error);
        }
        replica.sync(&mut || work.add(0))?;
        Ok(replica)
    }
}

impl Data<'_> {
    /// Fails unless `root` is that of the data.
    fn require(&self, root: Node) -> Result<()> {
        if root == self.comm_d {
            return Ok(());
        }
        // In a cache directory tree_d is a link, to a link where sectors without data share one.
        let file = match fs::canonicalize(self.path) {
            Ok(file) if self.path.is_symlink() => format!(", a link to {}", file.display()),
            _ => String::new(),
        };
        bail!(
            "tree_d {}{file}: the root over its leaves is {}, expected comm_d {}: the file is damaged",
            self.path.display(),
            hex::encode(root),
            hex::encode(self.comm_d)
        )
    }
}

/// The root of tree_d over `nodes`, a power of two of them.
fn root_of(nodes: &[Node]) -> Node {
    let mut row = nodes.to_vec();
    while row.len() > 1 {
        let mut above = vec![Node::default(); row.len() / 2];
        parents(row.as_flattened(), above.as_flattened_mut());
        row = above;
    }
    row[0]
}
