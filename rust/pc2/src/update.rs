//! The upgrade of a sector: the second pass of PC2, where the replica from before is the key.

use std::fs::File;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use field::fr::Fr;
use poseidon::Node;

use crate::encoding::Encoding;
use crate::files;
use crate::forest::Forest;
use crate::hashing;
use crate::kept::{discard, Kept};
use crate::replica::{self, Data, Replica};
use crate::shape::Shape;
use crate::source::{Origin, Source};
use crate::{publish, Commitments, Conclude, Engine, Watch, Work, TREE_R_LAST};

/// The sector that is upgraded.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// As it was sealed.
    pub shape: Shape,
    /// Takes tree_r_last of the upgraded sector.
    pub cache_dir: &'a Path,
    /// The replica of the sector without data.
    pub key: &'a Path,
    /// A file that begins with the new data: tree_d.
    pub data: &'a Path,
    /// The root over the new data.
    pub comm_d: Node,
    /// Of the sector as it was sealed, and stays.
    pub comm_c: Node,
    /// What the data is multiplied with: one factor for each of equal parts of the sector, in order.
    pub factors: &'a [Node],
    /// Where the new replica comes to be, in place of what is there.
    pub replica: &'a Path,
}

impl Engine {
    /// Writes the replica and tree_r_last of an upgraded sector: key + data · factor, node by node.
    ///
    /// The files get their names at the end, when all of them are on the disk. Fails with an error that
    /// names tree_d if `comm_d` is not the root over the data. What a cut run left is not taken up. Two
    /// runs in one cache directory wait for each other.
    pub fn update(
        &self,
        update: &Update<'_>,
        watch: &mut Watch<'_>,
        conclude: &mut Conclude<'_, Commitments>,
    ) -> Result<Commitments> {
        let Update {
            shape,
            cache_dir,
            key,
            ..
        } = update;
        let total = shape.base_trees() * replica::work(shape);
        let _alone = files::lock(cache_dir, &mut || watch(0, total))?;
        discard(cache_dir)?;
        let mut work = Work {
            done: 0,
            total,
            watch,
        };
        let factors = factors(update)?;
        let kept = Kept::open(shape, cache_dir, None, update.comm_d)?;
        let look = &mut || work.add(0);
        let tree_r = Forest::create(shape, TREE_R_LAST, shape.tree_r_last(), &kept, look)?;
        let file = File::open(key).with_context(|| format!("open {}", key.display()))?;
        let mut source = Source::new(Origin::Replica((*key).to_owned()), file, None);
        let replica = Replica {
            engine: self,
            shape,
            forest: &tree_r,
            data: &Data {
                path: update.data,
                comm_d: update.comm_d,
            },
            encoding: Encoding::Update {
                factors: &factors,
                nodes: shape.nodes,
            },
            path: update.replica,
        };
        let encoded = replica.run(&mut source, &mut work)?;
        let comm_r_last = hashing::root_over(shape, tree_r.roots()?)?;
        let commitments = Commitments {
            comm_c: update.comm_c,
            comm_r_last,
            comm_r: hashing::comm_r(&update.comm_c, &comm_r_last)?,
        };
        publish(&[&tree_r], &encoded, &mut work)?;
        conclude(&commitments)?;
        Ok(commitments)
    }
}

/// The factors as elements.
fn factors(update: &Update<'_>) -> Result<Vec<Fr>> {
    let count = update.factors.len() as u64;
    let nodes = update.shape.nodes;
    ensure!(
        count > 0 && nodes.is_multiple_of(count),
        "{count} factors for {nodes} nodes: expected equal parts"
    );
    let element = |factor| Fr::from_number(factor).context("a factor is no field element");
    update.factors.iter().map(element).collect()
}
