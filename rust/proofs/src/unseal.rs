//! Unsealing: a range of a sealed sector's data, without touching the stores it lies in.
//!
//! The library's own unsealing is not used: it writes a label layer into the sector's cache
//! directory over tree_d, opens the sealed file for writing, and holds the sector in memory beside
//! the two layers it labels. Here the last layer is computed in memory, and the range is decoded with
//! it from the sealed file, which is opened for reading.

use anyhow::{bail, Context, Result};
use field::canonical;
use rayon::prelude::*;

use crate::control::Control;
use crate::failure::guarded;
use crate::labelling::{last_layer, Identity};
use crate::merkle::{Node, NODE};
use crate::range::{SectorRange, Source, THREAD_BLOCK};
use crate::sector::{require_size, size_of, NODE_SIZE};
use crate::tasks::Unseal;

/// Writes the task's range of the sector's data to `unsealed_output`, which appears when it is
/// complete, and returns how many bytes there are.
///
/// The label layers are computed from the replica id, as in PC1, in memory of two sectors; of the
/// decoding a few MiB come to the one that is kept. Nothing but the output is written, and the sealed
/// file is only read. A sector that was sealed with another proof type, prover, number, ticket or comm_d
/// decodes to noise, which is recognised as data without padding: an error.
///
/// It can be cancelled at any time. Progress is in labels, then in unpadded bytes.
pub fn unseal(task: &Unseal, control: &mut Control<'_>) -> Result<u64> {
    guarded(|| {
        control.check()?;
        let sector_size = size_of(task.registered_proof);
        let range = SectorRange::checked(task.offset, task.num_bytes, sector_size)?;
        require_size("sealed file", &task.sealed_file, sector_size)?;
        let identity = Identity {
            registered_proof: task.registered_proof,
            prover_id: task.prover_id,
            sector_id: task.sector_id,
            ticket: task.ticket,
            comm_d: task.comm_d,
        };
        let labels = last_layer(&identity, control)?;
        let sealed = Source::open("sealed file", &task.sealed_file)?;
        let decode = |offset: u64, nodes: &mut [u8]| {
            sealed.read(offset, nodes)?;
            let start = usize::try_from(offset)?;
            subtract(offset, nodes, &labels[start..start + nodes.len()])
        };
        range
            .write(&task.unsealed_output, decode, control)
            .with_context(|| {
                format!(
                    "unseal {} as sector {} of {:?}",
                    task.sealed_file.display(),
                    task.sector_id,
                    task.registered_proof
                )
            })
    })
}

/// Node − key for every node; `offset` is where the nodes lie in the sector.
fn subtract(offset: u64, nodes: &mut [u8], keys: &[u8]) -> Result<()> {
    nodes
        .par_chunks_mut(THREAD_BLOCK)
        .zip(keys.par_chunks(THREAD_BLOCK))
        .enumerate()
        .try_for_each(|(block, (nodes, keys))| {
            let pairs = nodes.chunks_exact_mut(NODE).zip(keys.chunks_exact(NODE));
            for (index, (node, key)) in pairs.enumerate() {
                let node: &mut Node = node.try_into().expect("a node");
                let key: &Node = key.try_into().expect("a node");
                if !canonical::is_element(node) {
                    let start = (block * THREAD_BLOCK + index * NODE) as u64;
                    bail!("node {}: is no field element", (offset + start) / NODE_SIZE);
                }
                canonical::subtract(node, key);
            }
            Ok(())
        })
}
