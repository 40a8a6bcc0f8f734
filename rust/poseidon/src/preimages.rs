//! What is hashed: nodes in memory as they lie in files.

use field::canonical::is_element;

/// A field element as 32 little-endian bytes.
pub type Node = [u8; 32];

/// The preimages of a batch of hashes.
#[derive(Clone, Copy, Debug)]
pub enum Preimages<'a> {
    /// One after the other, as the children in a row of a tree.
    Rows(&'a [Node]),
    /// Element i of every preimage in slice i, as the layers of a sector hold its columns.
    Columns(&'a [&'a [Node]]),
}

impl Preimages<'_> {
    /// Element `i` of preimage `n`, for preimages of `arity` elements.
    #[inline]
    pub(crate) fn element(&self, arity: usize, n: usize, i: usize) -> &Node {
        match self {
            Preimages::Rows(nodes) => &nodes[n * arity + i],
            Preimages::Columns(columns) => &columns[i][n],
        }
    }

    /// Panics unless these are `count` preimages of `arity` elements.
    pub(crate) fn assert_shape(&self, arity: usize, count: usize) {
        match self {
            Preimages::Rows(nodes) => assert_eq!(nodes.len(), arity * count, "nodes in the rows"),
            Preimages::Columns(columns) => {
                assert_eq!(columns.len(), arity, "columns");
                for column in *columns {
                    assert_eq!(column.len(), count, "nodes in a column");
                }
            }
        }
    }

    /// The first node that is no field element: where it is in its slice, and which slice that is.
    pub(crate) fn first_foreign(&self) -> Option<NotAnElement> {
        let find = |column: usize, nodes: &[Node]| {
            let index = nodes.iter().position(|node| !is_element(node))?;
            Some(NotAnElement { column, index })
        };
        match self {
            Preimages::Rows(nodes) => find(0, nodes),
            Preimages::Columns(columns) => columns
                .iter()
                .enumerate()
                .find_map(|(column, nodes)| find(column, nodes)),
        }
    }
}

/// A node holds a number that is not below the field's modulus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnElement {
    /// The slice that the node is in; 0 for rows.
    pub column: usize,
    /// Its place there.
    pub index: usize,
}

impl std::fmt::Display for NotAnElement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {}: is no field element", self.index)
    }
}

impl std::error::Error for NotAnElement {}
