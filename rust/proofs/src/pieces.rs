//! Where pieces lie in a sector, and the sector's data commitment (comm_d) from theirs.

use anyhow::{ensure, Context, Result};
use filecoin_proofs_api::{Commitment, PieceInfo, UnpaddedBytesAmount};

use crate::merkle;
use crate::sector::{checked_size, unpadded};

/// Smallest piece, in unpadded bytes.
const MINIMUM_PIECE: u64 = 127;

/// Padded bytes of a piece of `unpadded` bytes, which must be 127 · 2ⁿ.
pub fn padded_piece_size(unpadded: u64) -> Result<u64> {
    let padded = unpadded / MINIMUM_PIECE * 128;
    ensure!(
        unpadded != 0 && unpadded.is_multiple_of(MINIMUM_PIECE) && padded.is_power_of_two(),
        "piece size {unpadded}: expected 127 times a power of two (unpadded bytes)"
    );
    Ok(padded)
}

/// Offsets, in padded bytes, of pieces of the given unpadded sizes laid one after another, each
/// aligned to its own padded size so that it covers a whole subtree of tree_d. The gaps are zeros.
pub fn offsets(sector_size: u64, sizes: impl IntoIterator<Item = u64>) -> Result<Vec<u64>> {
    let mut end = 0u64;
    let mut offsets = Vec::new();
    for (index, size) in sizes.into_iter().enumerate() {
        let padded = padded_piece_size(size).with_context(|| format!("piece {index}"))?;
        let offset = end.next_multiple_of(padded);
        end = offset + padded;
        ensure!(
            end <= sector_size,
            "piece {index}: ends at byte {end} (padded), the sector has {sector_size}"
        );
        offsets.push(offset);
    }
    Ok(offsets)
}

/// The pieces of a sector with a zero piece in every gap, so that they cover it exactly: the form
/// in which the proofs library compares them with tree_d.
pub fn fill(sector_size: u64, pieces: &[PieceInfo]) -> Result<Vec<PieceInfo>> {
    let offsets = offsets(sector_size, pieces.iter().map(|piece| piece.size.0))?;
    let mut filled = Vec::with_capacity(pieces.len());
    let mut end = 0;
    for (piece, offset) in pieces.iter().zip(offsets) {
        fill_gap(&mut filled, end, offset);
        filled.push(piece.clone());
        end = offset + padded_piece_size(piece.size.0)?;
    }
    fill_gap(&mut filled, end, sector_size);
    Ok(filled)
}

/// Covers the padded bytes `start..end` with the largest aligned zero pieces.
fn fill_gap(filled: &mut Vec<PieceInfo>, mut start: u64, end: u64) {
    while start < end {
        let room = 1 << (end - start).ilog2();
        let aligned = if start == 0 {
            room
        } else {
            1 << start.trailing_zeros()
        };
        let padded = room.min(aligned);
        filled.push(zero_piece(padded));
        start += padded;
    }
}

/// A piece of `padded` zero bytes.
pub fn zero_piece(padded: u64) -> PieceInfo {
    PieceInfo {
        commitment: merkle::zero_commitment(padded),
        size: UnpaddedBytesAmount(unpadded(padded)),
    }
}

/// comm_d of a sector of `sector_size` bytes that holds `pieces` in this order: the root of its
/// tree_d. Gaps (alignment, and the rest of the sector) are zeros; no pieces mean a sector of zeros.
pub fn data_commitment(sector_size: u64, pieces: &[PieceInfo]) -> Result<Commitment> {
    // Subtrees from the left, each with its padded size; equal neighbours are joined at once.
    let mut subtrees: Vec<(u64, merkle::Node)> = Vec::new();
    for piece in fill(checked_size(sector_size)?, pieces)? {
        let mut size = padded_piece_size(piece.size.0)?;
        let mut node = piece.commitment;
        while let Some(&(left_size, left)) = subtrees.last() {
            if left_size != size {
                break;
            }
            subtrees.pop();
            node = merkle::parent([left, node].as_flattened());
            size *= 2;
        }
        subtrees.push((size, node));
    }
    let (_, root) = subtrees[0];
    Ok(root)
}

#[cfg(test)]
mod tests {
    use filecoin_proofs::types::SectorSize;

    use super::*;

    const SECTOR: u64 = 2 << 10;

    fn piece(unpadded: u64, fill: u8) -> PieceInfo {
        PieceInfo {
            commitment: [fill; 32],
            size: UnpaddedBytesAmount(unpadded),
        }
    }

    #[test]
    fn agrees_with_the_library_on_full_sectors() {
        for sizes in [
            vec![2032],
            vec![1016, 1016],
            vec![508, 508, 1016],
            vec![254, 127, 127, 508, 1016],
        ] {
            let pieces: Vec<_> = sizes
                .iter()
                .zip(1u8..)
                .map(|(size, fill)| piece(*size, fill))
                .collect();
            let ours = data_commitment(SECTOR, &pieces).unwrap();
            let theirs =
                filecoin_proofs::pieces::compute_comm_d(SectorSize(SECTOR), &pieces).unwrap();
            assert_eq!(ours, theirs, "{sizes:?}");
        }
    }

    #[test]
    fn gaps_and_the_rest_of_the_sector_are_zero_pieces() {
        let sparse = [piece(127, 1), piece(508, 2)];
        let filled = fill(SECTOR, &sparse).unwrap();
        let sizes: Vec<u64> = filled.iter().map(|piece| piece.size.0).collect();
        assert_eq!(sizes, [127, 127, 254, 508, 1016]);
        assert_eq!(
            data_commitment(SECTOR, &sparse).unwrap(),
            filecoin_proofs::pieces::compute_comm_d(SectorSize(SECTOR), &filled).unwrap()
        );
    }

    #[test]
    fn no_pieces_are_a_sector_of_zeros() {
        assert_eq!(
            data_commitment(SECTOR, &[]).unwrap(),
            merkle::zero_commitment(SECTOR)
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |sizes: &[u64]| {
            offsets(SECTOR, sizes.iter().copied())
                .unwrap_err()
                .chain()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": ")
        };
        assert_eq!(
            text(&[1016, 1016, 127]),
            "piece 2: ends at byte 2176 (padded), the sector has 2048"
        );
        assert_eq!(
            text(&[1016, 1000]),
            "piece 1: piece size 1000: expected 127 times a power of two (unpadded bytes)"
        );
    }
}
