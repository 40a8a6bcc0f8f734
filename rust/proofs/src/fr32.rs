//! fr32 bit padding: every 254 bits of data are followed by two zero bits, so that each 32-byte
//! node is a field element. A block of 127 bytes becomes one of 128.

use crate::merkle::NODE;

/// Unpadded bytes of a block.
pub const BLOCK_IN: usize = 127;
/// Padded bytes of a block.
pub const BLOCK_OUT: usize = 128;

/// The high two bits of a node's last word stay zero.
const NODE_TOP_MASK: u64 = u64::MAX >> 2;

/// Pads whole blocks: `data` is n·127 bytes, `padded` n·128.
pub fn pad(data: &[u8], padded: &mut [u8]) {
    assert_eq!(
        data.len() / BLOCK_IN * BLOCK_IN,
        data.len(),
        "unpadded data in whole blocks"
    );
    assert_eq!(
        data.len() / BLOCK_IN,
        padded.len() / BLOCK_OUT,
        "room for the padded data"
    );
    for (block, out) in data
        .chunks_exact(BLOCK_IN)
        .zip(padded.chunks_exact_mut(BLOCK_OUT))
    {
        pad_block(block, out);
    }
}

/// Output node k (k = 0..4) holds the input's bits 254k to 254k + 254, so output word j of the
/// block starts at input bit 64j − 2k: word j shifted up by 2k, filled from word j − 1.
fn pad_block(block: &[u8], out: &mut [u8]) {
    let mut words = [0u64; 16];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    let mut last = [0u8; 8];
    last[..7].copy_from_slice(&block[120..]);
    words[15] = u64::from_le_bytes(last);

    for (j, bytes) in out.chunks_exact_mut(8).enumerate() {
        let shift = 2 * (j / 4);
        let mut word = if shift == 0 {
            words[j]
        } else {
            words[j] << shift | words[j - 1] >> (64 - shift)
        };
        if j % 4 == 3 {
            word &= NODE_TOP_MASK;
        }
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

/// Takes whole blocks apart again: `padded` is n·128 bytes, `data` n·127. The bits that padding left
/// zero are dropped unseen: ask [`first_unpadded_node`].
pub fn unpad(padded: &[u8], data: &mut [u8]) {
    assert_eq!(
        padded.len() / BLOCK_OUT * BLOCK_OUT,
        padded.len(),
        "padded data in whole blocks"
    );
    assert_eq!(
        data.len() / BLOCK_IN,
        padded.len() / BLOCK_OUT,
        "room for the data"
    );
    for (block, out) in padded
        .chunks_exact(BLOCK_OUT)
        .zip(data.chunks_exact_mut(BLOCK_IN))
    {
        unpad_block(block, out);
    }
}

/// The inverse of [`pad_block`]: word j of the data is word j of the block shifted down by 2k, filled
/// from the word above; at the end of a node the word above belongs to node k + 1 and starts 2 bits
/// lower.
fn unpad_block(block: &[u8], out: &mut [u8]) {
    let mut words = [0u64; 17];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    for (j, bytes) in out.chunks_mut(8).enumerate() {
        let shift = 2 * (j / 4);
        let word = if j % 4 == 3 {
            (words[j] & NODE_TOP_MASK) >> shift | words[j + 1] << (62 - shift)
        } else if shift == 0 {
            words[j]
        } else {
            words[j] >> shift | words[j + 1] << (64 - shift)
        };
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}

/// Index of the first node of `nodes` that isn't padded data: its top two bits are not zero.
pub fn first_unpadded_node(nodes: &[u8]) -> Option<usize> {
    nodes
        .chunks_exact(NODE)
        .position(|node| node[NODE - 1] & 0b1100_0000 != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn pads_as_the_fr32_crate_does() {
        for blocks in [1usize, 2, 16, 33] {
            let data: Vec<u8> = (0..blocks * BLOCK_IN)
                .map(|i| (i * 167 + i / 251 + 13) as u8 | ((i % 3 == 0) as u8 * 0xff))
                .collect();
            let mut padded = vec![0u8; blocks * BLOCK_OUT];
            pad(&data, &mut padded);

            let mut expected = Vec::new();
            fr32::Fr32Reader::new(&data[..])
                .read_to_end(&mut expected)
                .unwrap();
            assert_eq!(padded, expected, "{blocks} blocks");
        }
    }

    #[test]
    fn unpadding_gives_the_data_back() {
        for blocks in [1usize, 3, 16] {
            let data: Vec<u8> = (0..blocks * BLOCK_IN)
                .map(|i| (i * 89 + i / 7) as u8 | ((i % 5 == 0) as u8 * 0xff))
                .collect();
            let mut padded = vec![0u8; blocks * BLOCK_OUT];
            pad(&data, &mut padded);
            assert_eq!(first_unpadded_node(&padded), None);
            let mut again = vec![0u8; data.len()];
            unpad(&padded, &mut again);
            assert_eq!(again, data, "{blocks} blocks");

            padded[2 * NODE + 31] |= 0x40;
            assert_eq!(first_unpadded_node(&padded), Some(2));
        }
    }

    #[test]
    fn all_ones_leave_the_top_two_bits_of_each_node_zero() {
        let mut padded = [0u8; BLOCK_OUT];
        pad(&[0xff; BLOCK_IN], &mut padded);
        for node in padded.chunks_exact(32) {
            assert_eq!(node[..31], [0xff; 31]);
            assert_eq!(node[31], 0x3f);
        }
    }
}
