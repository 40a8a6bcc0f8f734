//! The shape of a sector's trees: how many there are, their rows, and where a row is in its file.

/// Bytes of a node.
pub const NODE: u64 = 32;
/// Children of a node in the trees of a sector.
pub const ARITY: u64 = 8;
/// Leaves that a thread takes at a time, 8⁴: enough work for a look at the clock before and behind.
const CHUNK: u64 = 4096;

/// What decides the trees of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Leaves of all base trees together: a power of 8 for each.
    pub nodes: u64,
    /// Label layers: 2 or 11.
    pub layers: u32,
    /// Base trees under one node; 0 if there is one base tree only.
    pub sub_arity: u64,
    /// Nodes over base trees under the root; 0 if there is one only.
    pub top_arity: u64,
    /// Rows above the leaves that the files of tree_r_last leave out. They leave out the leaves too:
    /// these are the replica.
    pub rows_to_discard: u32,
}

impl Shape {
    /// Base trees, one file each.
    pub fn base_trees(&self) -> u64 {
        self.sub_arity.max(1) * self.top_arity.max(1)
    }

    /// Leaves of one base tree.
    pub fn base_nodes(&self) -> u64 {
        self.nodes / self.base_trees()
    }

    /// Bytes of a layer, and of the sector.
    pub fn size(&self) -> u64 {
        self.nodes * NODE
    }

    /// Leaves in a chunk: a subtree that one thread makes.
    pub fn chunk(&self) -> u64 {
        CHUNK.min(self.base_nodes())
    }

    /// The file of tree_c.
    pub fn tree_c(&self) -> Rows {
        Rows {
            leaves: self.base_nodes(),
            discarded: 0,
        }
    }

    /// The file of tree_r_last.
    pub fn tree_r_last(&self) -> Rows {
        Rows {
            leaves: self.base_nodes(),
            discarded: self.rows_to_discard + 1,
        }
    }

    /// Name of the file of base tree `index`, where `stem` is the name of the tree.
    pub fn file_name(&self, stem: &str, index: u64) -> String {
        if self.base_trees() == 1 {
            format!("{stem}.dat")
        } else {
            format!("{stem}-{index}.dat")
        }
    }
}

/// The rows of a base tree as they follow each other in its file, leaves first.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    leaves: u64,
    /// Rows that the file leaves out, counted from the leaves.
    discarded: u32,
}

impl Rows {
    /// Bytes of the file.
    pub fn file_size(&self) -> u64 {
        let root = self.leaves.ilog(ARITY);
        self.offset(root).map_or(0, |offset| offset + NODE)
    }

    /// Where row `row` begins in the file; none if the file leaves it out.
    pub fn offset(&self, row: u32) -> Option<u64> {
        let below = self.discarded..row;
        let nodes: u64 = below.map(|row| self.leaves / ARITY.pow(row)).sum();
        (row >= self.discarded).then_some(nodes * NODE)
    }
}

/// Leaves that are read at a time: large enough that a disk is read in one go, small enough that
/// eleven layers of it are 44 MiB.
const READ: u64 = 131_072;

/// Some leaves of one base tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: u64,
    pub nodes: u64,
}

/// The leaves of a sector in the pieces in which they are read, whole chunks of one tree each.
pub fn slabs(shape: &Shape) -> impl Iterator<Item = Span> {
    let nodes = READ.min(shape.base_nodes());
    let spans = shape.nodes / nodes;
    (0..spans).map(move |index| Span {
        first: index * nodes,
        nodes,
    })
}

/// The work in the rows over `leaves` leaves. The unit is an element that goes through a permutation,
/// what the time of a hash is about proportional to.
pub fn tree_work(leaves: u64) -> u64 {
    leaves / (ARITY - 1) * (ARITY + 1)
}
