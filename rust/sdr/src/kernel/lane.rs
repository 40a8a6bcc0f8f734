//! One sector's chain of labels, as the kernels see it.

use std::sync::Arc;

use anyhow::{bail, ensure, Result};

use crate::graph::{BASE_DEGREE, DEGREE, NODE_SIZE};
use crate::parents::ParentsCache;

/// Parents that are hashed per label: 14, the 14 again, 9 of them; in layer 1 six of them in turn.
pub const TOTAL_PARENTS: usize = 37;
/// 64-byte blocks of two parents each between the first block and the last.
pub const MIDDLE_BLOCKS: usize = TOTAL_PARENTS / 2;
/// Different ones among the middle blocks.
pub const DISTINCT_BLOCKS: usize = DEGREE / 2;
/// Middle blocks that repeat a distinct one.
pub const REPEATS: usize = MIDDLE_BLOCKS - DISTINCT_BLOCKS;

/// The label memory of a lane: a layer being computed and the one before.
///
/// Plain pointers, because while a lane writes a layer, what is finished of it is read to be stored.
#[derive(Clone, Copy)]
pub struct LaneMemory {
    /// `nodes` labels, written in order.
    pub labels: *mut u8,
    /// `nodes` labels of the layer before; not read in layer 1.
    pub previous: *const u8,
}

// SAFETY: pointers to memory that any thread may use; who does what is `Lane::new`'s contract.
unsafe impl Send for LaneMemory {}

/// The state of a lane: a sector's layer, computed up to a node.
#[repr(C, align(64))]
pub struct Lane {
    /// Message schedule plus round constants of the middle blocks: they are hashed two or three
    /// times each, and expanded once.
    pub(super) schedules: [[[u32; 4]; 16]; DISTINCT_BLOCKS],
    /// First block of the message: replica id, layer, node, zeros.
    pub(super) prefix: [u8; 64],
    /// For the middle blocks after the distinct ones: which block each one repeats.
    pub(super) repeats: [u8; REPEATS],
    pub(super) memory: LaneMemory,
    parents: Arc<ParentsCache>,
    layer: u32,
    node: u32,
}

impl Lane {
    /// A lane at the start of `layer` (from 1) of the sector with `replica_id`.
    ///
    /// # Safety
    ///
    /// As long as the lane is used, `memory.labels` must point to as many labels as the graph has
    /// nodes, which nobody else writes, and of which nobody else reads those at or after the lane's
    /// node; and above layer 1 `memory.previous` to as many, all written, which nobody writes.
    pub unsafe fn new(
        parents: Arc<ParentsCache>,
        replica_id: &[u8; 32],
        layer: u32,
        memory: LaneMemory,
    ) -> Self {
        let mut prefix = [0; 64];
        prefix[..32].copy_from_slice(replica_id);
        prefix[32..36].copy_from_slice(&layer.to_be_bytes());
        let distinct = if layer == 1 {
            BASE_DEGREE / 2
        } else {
            DISTINCT_BLOCKS
        };
        let mut repeats = [0; REPEATS];
        for (block, repeated) in (DISTINCT_BLOCKS..).zip(&mut repeats) {
            *repeated = (block % distinct) as u8;
        }
        Lane {
            schedules: [[[0; 4]; 16]; DISTINCT_BLOCKS],
            prefix,
            repeats,
            memory,
            parents,
            layer,
            node: 0,
        }
    }

    /// The lane at a later node.
    ///
    /// # Safety
    ///
    /// The labels of all nodes before `node` are written.
    pub unsafe fn starting_at(mut self, node: u32) -> Self {
        assert!(node <= self.nodes(), "node {node} is beyond the layer");
        self.node = node;
        self
    }

    /// The next node to be labelled.
    pub fn node(&self) -> u32 {
        self.node
    }

    /// Nodes of the layer that have no label yet.
    pub fn left(&self) -> u32 {
        self.nodes() - self.node
    }

    pub fn layer(&self) -> u32 {
        self.layer
    }

    pub(super) fn nodes(&self) -> u32 {
        self.parents.spec().nodes
    }

    /// Whether parents in the layer before are hashed.
    pub(super) fn has_previous(&self) -> bool {
        self.layer > 1
    }

    /// Fails unless `count` nodes are left and all their parents have a label by then: base parents
    /// come before their node, expander parents are within the layer.
    pub fn check(&self, count: u32) -> Result<()> {
        ensure!(
            count <= self.left(),
            "{count} labels asked for with {} nodes left",
            self.left()
        );
        let nodes = self.nodes();
        let first = self.node as usize;
        let rows = &self.parents.rows()[first..first + count as usize];
        for (node, row) in (self.node..).zip(rows) {
            let (base, expander) = row.split_at(BASE_DEGREE);
            // Node 0 has no parents; its row holds zeros.
            let base_bound = node.max(1);
            let good = base
                .iter()
                .fold(true, |good, parent| good & (*parent < base_bound))
                & expander
                    .iter()
                    .fold(true, |good, parent| good & (*parent < nodes));
            if !good {
                bail!(self.parents.damaged(node));
            }
        }
        Ok(())
    }

    /// The parents of `node`, or of the last node if it is beyond the layer.
    pub(super) fn row(&self, node: u32) -> &[u32; DEGREE] {
        let node = node.min(self.nodes() - 1);
        // SAFETY: there are as many rows as nodes, and `node` is below that number.
        unsafe { self.parents.rows().get_unchecked(node as usize) }
    }

    /// Where the label of `node` is in this layer.
    pub(super) fn label(&self, node: u32) -> *mut u8 {
        self.memory.labels.wrapping_add(node as usize * NODE_SIZE)
    }

    /// Where the label of `node` is in the layer before.
    pub(super) fn previous(&self, node: u32) -> *const u8 {
        self.memory.previous.wrapping_add(node as usize * NODE_SIZE)
    }

    /// Moves on one node.
    pub(super) fn step(&mut self) {
        self.node += 1;
    }

    /// The replica id, with which every message starts.
    pub(super) fn replica_id(&self) -> *const u8 {
        self.prefix.as_ptr()
    }

    /// Puts `node` into the first block of the message.
    pub(super) fn set_prefix(&mut self, node: u32) {
        self.prefix[36..44].copy_from_slice(&u64::from(node).to_be_bytes());
    }

    /// Asks the kernel to have the parents of the nodes to come ready in memory.
    pub fn will_need(&self, nodes: u32) {
        self.parents.will_need(self.node, nodes);
    }
}
