//! Labels with the `sha2` crate, on any machine.

use std::slice;

use sha2::{Digest, Sha256};

use super::lane::TOTAL_PARENTS;
use super::{Kernel, Lane};
use crate::graph::{BASE_DEGREE, DEGREE, NODE_SIZE};

/// One hash after the other, so one lane.
pub struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &str {
        "portable"
    }

    fn max_lanes(&self) -> usize {
        1
    }

    unsafe fn label(&self, lanes: &mut [&mut Lane], count: u32) {
        for lane in lanes {
            for _ in 0..count {
                // SAFETY: the caller checked this node's parents.
                unsafe { label(lane) };
            }
        }
    }
}

/// Computes the label of the lane's node and moves on.
///
/// # Safety
///
/// The node's parents were checked.
pub unsafe fn label(lane: &mut Lane) {
    let node = lane.node();
    lane.set_prefix(node);
    let mut hash = Sha256::new();
    hash.update(lane.prefix);
    if node > 0 {
        let degree = if lane.has_previous() {
            DEGREE
        } else {
            BASE_DEGREE
        };
        for index in (0..degree).cycle().take(TOTAL_PARENTS) {
            let parent = lane.row(node)[index];
            let from = if index < BASE_DEGREE {
                lane.label(parent).cast_const()
            } else {
                lane.previous(parent)
            };
            // SAFETY: the parent is a finished label of the lane's memory, by the check and by
            // `Lane::new`'s contract.
            hash.update(unsafe { slice::from_raw_parts(from, NODE_SIZE) });
        }
    }
    let mut digest: [u8; NODE_SIZE] = hash.finalize().into();
    // A label is a field element: the two highest bits are cleared.
    digest[NODE_SIZE - 1] &= 0x3f;
    // SAFETY: the node is within the layer, and the lane alone writes it.
    unsafe {
        lane.label(node)
            .copy_from_nonoverlapping(digest.as_ptr(), NODE_SIZE)
    };
    lane.step();
}
