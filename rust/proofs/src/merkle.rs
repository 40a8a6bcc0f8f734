//! The binary SHA-256 tree of unsealed data (tree_d): node = SHA-256(left ‖ right) with the top two
//! bits of the last byte cleared, so that it is a field element.

pub use sdr::kernel::parents;

/// A tree node: a leaf of padded data or a hash.
pub type Node = [u8; 32];

/// Bytes of a node, for slices.
pub const NODE: usize = 32;

/// Padded bytes that are hashed as soon as they are made: the fastest cache of a core holds them.
const BLOCK: usize = 16 << 10;

/// Parent of the two nodes in `pair` (64 bytes).
pub fn parent(pair: &[u8]) -> Node {
    let mut node = [0u8; NODE];
    parents(pair, &mut node);
    node
}

/// Root over `nodes`, a power of two of them.
pub fn root_of(nodes: Vec<Node>) -> Node {
    assert!(nodes.len().is_power_of_two(), "a full binary tree");
    let mut row = nodes;
    while row.len() > 1 {
        let mut above = vec![Node::default(); row.len() / 2];
        parents(row.as_flattened(), above.as_flattened_mut());
        row = above;
    }
    row[0]
}

/// Fills `padded` block by block with `fill` (called with the block's offset), and returns the root
/// over it; `padded` is a power of two of bytes, 64 or more.
pub fn fill_and_hash(padded: &mut [u8], fill: impl Fn(usize, &mut [u8])) -> Node {
    let roots = padded
        .chunks_mut(BLOCK)
        .enumerate()
        .map(|(i, block)| {
            fill(i * BLOCK, block);
            let mut row = vec![Node::default(); block.len() / (2 * NODE)];
            parents(block, row.as_flattened_mut());
            root_of(row)
        })
        .collect();
    root_of(roots)
}

/// Root over `padded` zero bytes, a power of two, 32 or more: the commitment of an empty piece or
/// sector of that padded size.
pub fn zero_commitment(padded: u64) -> Node {
    assert!(
        padded.is_power_of_two() && padded >= NODE as u64,
        "a full tree of nodes"
    );
    let mut node = [0u8; NODE];
    let mut covered = NODE as u64;
    while covered < padded {
        node = parent([node, node].as_flattened());
        covered *= 2;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_commitments_are_the_published_ones() {
        let hex = |padded| hex::encode(zero_commitment(padded));
        assert!(hex(2 << 10).starts_with("fc7e9282") && hex(2 << 10).ends_with("18f833"));
        assert!(hex(8 << 20).starts_with("65f29e5d") && hex(8 << 20).ends_with("ec421c"));
        assert_eq!(
            hex(32 << 30),
            "077e5fde35c50a9303a55009e3498a4ebedff39c42b710b730d8ec7ac7afa63e"
        );
        assert_eq!(
            hex(64 << 30),
            "e64005a6bfe3777953b8ad6ef93f0fca1049b2041654f2a411f7702799cece02"
        );
    }

    #[test]
    fn blocks_hash_to_the_same_root_as_rows() {
        let size = 4 * BLOCK;
        let byte = |offset: usize| (offset / 3 % 251) as u8;
        let mut padded = vec![0u8; size];
        let root = fill_and_hash(&mut padded, |start, block| {
            for (i, value) in block.iter_mut().enumerate() {
                *value = byte(start + i);
            }
        });
        let mut row = padded;
        while row.len() > NODE {
            let mut above = vec![0u8; row.len() / 2];
            parents(&row, &mut above);
            row = above;
        }
        assert_eq!(root[..], row[..]);
    }
}
