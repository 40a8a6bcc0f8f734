//! PC2: from the label layers to the trees and the replica of a sector, byte for byte the files of
//! the proofs library. And the upgrade of a sector, which is its second half with another key.
//!
//! Two passes, each reading its files once from start to end while other threads hash: the columns of
//! all layers make tree_c, then the last layer and the sector's data make the replica and tree_r_last.
//! Both verify what they read. Memory is bounded by what the threads have in hand, whatever the size of
//! the sector.

mod columns;
mod encoding;
mod files;
mod forest;
mod hashing;
mod kept;
mod layers;
mod pipeline;
mod replica;
mod shape;
mod source;
mod tree;
mod update;

use std::path::Path;

use anyhow::Result;
use poseidon::{Kernel, Node};

use encoding::Encoding;
use files::Unfinished;
use forest::Forest;
use kept::Kept;
pub use kept::{discard, PREFIX as UNFINISHED_PREFIX};
pub use layers::verify as verify_layers;
use layers::Layers;
use replica::{Data, Replica};
pub use shape::Shape;
pub use source::DamagedLayer;
pub use update::Update;

/// Names of the trees; base trees are numbered if there are several, and end in `.dat`.
pub const TREE_C: &str = "sc-02-data-tree-c";
pub const TREE_R_LAST: &str = "sc-02-data-tree-r-last";

/// What computes.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    pub kernel: Kernel,
    /// Hashing threads.
    pub threads: usize,
}

/// The sector that PC2 is run for.
#[derive(Clone, Copy, Debug)]
pub struct Sector<'a> {
    pub shape: Shape,
    /// Holds the layers; takes the trees.
    pub cache_dir: &'a Path,
    /// A file that begins with the sector's data: tree_d.
    pub data: &'a Path,
    /// The root over the data.
    pub comm_d: Node,
    /// Where the replica comes to be, in place of what is there.
    pub replica: &'a Path,
}

/// What PC2 makes known of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitments {
    pub comm_c: Node,
    pub comm_r_last: Node,
    pub comm_r: Node,
}

/// Receives the work done and the work in all, both in the same unit; an error it returns ends PC2
/// with that error, and finished trees are there for the next run.
pub type Watch<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// Is called when all files have their names, while a cut run would still be taken up: for what the caller
/// adds to them.
pub type Conclude<'a, T> = dyn FnMut(&T) -> Result<()> + 'a;

impl Engine {
    /// Writes tree_c, tree_r_last and the replica of a sector.
    ///
    /// The files get their names at the end, when all of them are on the disk. Fails with a
    /// [`DamagedLayer`] if a layer is missing, short, not what its checksum file says, or no labels, and
    /// with an error that names tree_d if `comm_d` is not the root over the data.
    /// Nothing that an earlier run left under the final names is used, except what this recorded. Two runs
    /// in one cache directory wait for each other.
    pub fn run(
        &self,
        sector: &Sector<'_>,
        watch: &mut Watch<'_>,
        conclude: &mut Conclude<'_, Commitments>,
    ) -> Result<Commitments> {
        let cache_dir = sector.cache_dir;
        let total = sector.shape.base_trees()
            * (columns::work(&sector.shape) + replica::work(&sector.shape));
        let _alone = files::lock(cache_dir, &mut || watch(0, total))?;
        loop {
            let mut work = Work {
                done: 0,
                total,
                watch,
            };
            match self.attempt(sector, &mut work, conclude) {
                Ok(Some(commitments)) => {
                    discard(cache_dir)?;
                    return Ok(commitments);
                }
                // Without the stale trees: each try has fewer of them.
                Ok(None) => {}
                Err(error) => {
                    if error.is::<DamagedLayer>() {
                        // What was made of it is as wrong as it is.
                        discard(cache_dir)?;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// One try; none if trees of an earlier run turned out to be of other bytes than the files have.
    fn attempt(
        &self,
        sector: &Sector<'_>,
        work: &mut Work<'_, '_>,
        conclude: &mut Conclude<'_, Commitments>,
    ) -> Result<Option<Commitments>> {
        let Sector {
            shape, cache_dir, ..
        } = sector;
        let mut layers = Layers::open(shape, cache_dir)?;
        let checksums = layers.checksums();
        let of_last = checksums.as_ref().and_then(|all| all.last().cloned());
        let kept = Kept::open(shape, cache_dir, checksums, sector.comm_d)?;
        let (of_c, of_r) = (columns::work(shape), replica::work(shape));
        work.done = kept.count(TREE_C) * of_c + kept.count(TREE_R_LAST) * of_r;
        let look = &mut || work.add(0);
        let tree_c = Forest::create(shape, TREE_C, shape.tree_c(), &kept, look)?;
        let tree_r = Forest::create(shape, TREE_R_LAST, shape.tree_r_last(), &kept, look)?;
        work.done = tree_c.work_kept(of_c) + tree_r.work_kept(of_r);
        work.add(0)?;

        let columns = columns::Columns {
            engine: self,
            shape,
            forest: &tree_c,
        };
        columns.run(&mut layers, work)?;
        if tree_c.forget_stale()? {
            return Ok(None);
        }
        let comm_c = hashing::root_over(shape, tree_c.roots()?)?;

        let replica = Replica {
            engine: self,
            shape,
            forest: &tree_r,
            data: &Data {
                path: sector.data,
                comm_d: sector.comm_d,
            },
            encoding: Encoding::Seal,
            path: sector.replica,
        };
        let encoded = replica.run(&mut layers::last(shape, cache_dir, of_last)?, work)?;
        if tree_r.forget_stale()? {
            return Ok(None);
        }
        let comm_r_last = hashing::root_over(shape, tree_r.roots()?)?;
        let commitments = Commitments {
            comm_c,
            comm_r_last,
            comm_r: hashing::comm_r(&comm_c, &comm_r_last)?,
        };
        publish(&[&tree_c, &tree_r], &encoded, work)?;
        conclude(&commitments)?;
        Ok(Some(commitments))
    }
}

/// Gives everything its name, unless the run is to stop.
fn publish(forests: &[&Forest<'_>], replica: &Unfinished, work: &mut Work<'_, '_>) -> Result<()> {
    work.add(0)?;
    forests.iter().try_for_each(|forest| forest.release())?;
    replica.publish()
}

/// How far a run is.
struct Work<'a, 'b> {
    done: u64,
    total: u64,
    watch: &'a mut Watch<'b>,
}

impl Work<'_, '_> {
    fn add(&mut self, done: u64) -> Result<()> {
        self.done += done;
        (self.watch)(self.done, self.total)
    }
}
