//! The first pass: hashes of the columns of all layers, and tree_c over them.

use anyhow::Result;
use poseidon::{Node, Preimages};

use crate::forest::Forest;
use crate::hashing::column_hash;
use crate::layers::Layers;
use crate::pipeline;
use crate::shape::{slabs, tree_work, Shape};
use crate::{Engine, Work};

/// Makes tree_c.
pub struct Columns<'a> {
    pub engine: &'a Engine,
    pub shape: &'a Shape,
    pub forest: &'a Forest<'a>,
}

/// Labels of all layers for some chunks.
struct Slab {
    first_chunk: u64,
    columns: Vec<Vec<Node>>,
}

/// The work in the columns and the tree of one base tree.
pub fn work(shape: &Shape) -> u64 {
    shape.base_nodes() * (u64::from(shape.layers) + 1) + tree_work(shape.base_nodes())
}

impl Columns<'_> {
    /// Reads every layer to its end, those of kept trees too: only a whole layer has a checksum.
    pub fn run(&self, layers: &mut Layers, work: &mut Work<'_, '_>) -> Result<()> {
        let Columns {
            engine,
            shape,
            forest,
        } = *self;
        let hash = column_hash(shape.layers)?;
        let chunk = shape.chunk() as usize;
        let work_of_chunk = self::work(shape) / (shape.base_nodes() / shape.chunk());
        let origins = layers.origins();
        pipeline::run(
            engine.threads,
            |emit| {
                for slab in slabs(shape) {
                    let columns = layers.read(slab.first, slab.nodes)?;
                    forest.note(slab, &columns);
                    let first_chunk = slab.first / shape.chunk();
                    if forest.misses(first_chunk) {
                        let slab_chunks = slab.nodes / shape.chunk();
                        emit(
                            Slab {
                                first_chunk,
                                columns,
                            },
                            usize::try_from(slab_chunks)?,
                        )?;
                    }
                }
                layers.verify()
            },
            |slab, part, look| {
                let nodes = part * chunk..(part + 1) * chunk;
                let columns: Vec<&[Node]> = slab
                    .columns
                    .iter()
                    .map(|labels| &labels[nodes.clone()])
                    .collect();
                let mut leaves = vec![Node::default(); chunk];
                let number = slab.first_chunk + part as u64;
                hash.hash(engine.kernel, Preimages::Columns(&columns), &mut leaves)
                    .map_err(|foreign| origins.foreign(foreign, number * shape.chunk()))?;
                forest.add(engine.kernel, number, &leaves, look)?;
                Ok(work_of_chunk)
            },
            &mut |done| work.add(done),
        )
    }
}
