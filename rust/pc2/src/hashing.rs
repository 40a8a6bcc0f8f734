//! Trees in memory: the rows over some leaves, and the root over base trees.

use anyhow::{bail, Result};
use poseidon::{Kernel, Node, Poseidon, Preimages, ARITY_11, ARITY_2, ARITY_8};

use crate::shape::{Shape, ARITY};

/// The instance that hashes columns of `layers` labels.
pub fn column_hash(layers: u32) -> Result<&'static Poseidon> {
    match layers {
        2 => Ok(&ARITY_2),
        11 => Ok(&ARITY_11),
        _ => bail!("{layers} layers: expected 2 or 11"),
    }
}

/// The rows above `leaves`, a power of 8 of them, up to the root; none above one leaf.
pub fn rows_above(kernel: Kernel, leaves: &[Node]) -> Result<Vec<Vec<Node>>> {
    let mut rows: Vec<Vec<Node>> = Vec::new();
    loop {
        let below = rows.last().map_or(leaves, Vec::as_slice);
        if below.len() <= 1 {
            return Ok(rows);
        }
        let mut row = vec![Node::default(); below.len() / ARITY as usize];
        ARITY_8.hash(kernel, Preimages::Rows(below), &mut row)?;
        rows.push(row);
    }
}

/// The root over the roots of the base trees.
pub fn root_over(shape: &Shape, mut roots: Vec<Node>) -> Result<Node> {
    for arity in [shape.sub_arity, shape.top_arity] {
        let hash = match arity {
            0 => continue,
            2 => &ARITY_2,
            8 => &ARITY_8,
            _ => bail!("{arity} trees under one node: expected 2 or 8"),
        };
        let mut above = vec![Node::default(); roots.len() / arity as usize];
        hash.hash(Kernel::One, Preimages::Rows(&roots), &mut above)?;
        roots = above;
    }
    match roots[..] {
        [root] => Ok(root),
        _ => bail!("{} roots are left over one sector", roots.len()),
    }
}

/// comm_r of the two commitments it is made of.
pub fn comm_r(comm_c: &Node, comm_r_last: &Node) -> Result<Node> {
    Ok(ARITY_2.hash_one(&[*comm_c, *comm_r_last])?)
}
