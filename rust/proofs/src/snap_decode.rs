//! Reading back the data of an upgraded sector.

use std::borrow::Cow;

use anyhow::{ensure, Context, Result};
use filecoin_proofs_api::update::empty_sector_update_decode_from_range;
use rayon::prelude::*;
use sdr::Labels;

use crate::control::Control;
use crate::failure::guarded;
use crate::labelling::{last_layer, Identity};
use crate::merkle::zero_commitment;
use crate::range::{SectorRange, Source, THREAD_BLOCK};
use crate::sector::{self, require_size, NODE_SIZE};
use crate::snap::size_of;
use crate::tasks::{SnapDecode, UpdateKey};

/// Nodes that one thread decodes alone.
const THREAD_NODES: usize = THREAD_BLOCK / NODE_SIZE as usize;

/// Writes the task's range of an upgraded sector's data to `unsealed_output`, which appears when it
/// is complete, and returns how many bytes there are.
///
/// The key is the replica from before the upgrade. A sector that can be upgraded holds zeros, so its
/// replica equals its last label layer: where the sealed file is gone, that is computed in memory of two
/// sectors, of which one is kept while decoding. Otherwise memory is a few MiB.
///
/// Nothing but the output is written. A wrong key or commitment gives noise, which is recognised as data
/// without padding: an error. Progress is in labels, if they are computed, then in unpadded bytes.
pub fn snap_decode(task: &SnapDecode, control: &mut Control<'_>) -> Result<u64> {
    guarded(|| {
        control.check()?;
        let sector_size = size_of(task.registered_proof);
        let range = SectorRange::checked(task.offset, task.num_bytes, sector_size)?;
        require_size("update file", &task.new_replica_path, sector_size)?;
        let update = Source::open("update file", &task.new_replica_path)?;
        let key = Key::obtain(&task.key, sector_size, control)?;
        let decode = |offset: u64, nodes: &mut [u8]| {
            update.read(offset, nodes)?;
            let first = usize::try_from(offset / NODE_SIZE)?;
            let keys = key.read(offset, nodes.len())?;
            decode_nodes(task, first, nodes, &keys)
        };
        range
            .write(&task.unsealed_output, decode, control)
            .with_context(|| {
                format!(
                    "decode {} with the key of {}",
                    task.new_replica_path.display(),
                    describe(&task.key)
                )
            })
    })
}

/// Where the nodes of the key are.
enum Key<'a> {
    File(Source<'a>),
    Memory(Labels),
}

impl<'a> Key<'a> {
    fn obtain(key: &'a UpdateKey, sector_size: u64, control: &mut Control<'_>) -> Result<Self> {
        match key {
            UpdateKey::SealedFile(path) => {
                require_size("key file", path, sector_size)?;
                Ok(Key::File(Source::open("key file", path)?))
            }
            UpdateKey::Sealed(sealed) => {
                let found = sector::size_of(sealed.registered_proof);
                ensure!(
                    found == sector_size,
                    "key of {:?}: its sectors have {found} bytes, the update has {sector_size}",
                    sealed.registered_proof
                );
                let identity = Identity {
                    registered_proof: sealed.registered_proof,
                    prover_id: sealed.prover_id,
                    sector_id: sealed.sector_id,
                    ticket: sealed.ticket,
                    comm_d: zero_commitment(sector_size),
                };
                Ok(Key::Memory(last_layer(&identity, control)?))
            }
        }
    }

    fn read(&self, offset: u64, length: usize) -> Result<Cow<'_, [u8]>> {
        match self {
            Key::File(source) => {
                let mut nodes = vec![0; length];
                source.read(offset, &mut nodes)?;
                Ok(Cow::Owned(nodes))
            }
            Key::Memory(labels) => {
                let start = usize::try_from(offset)?;
                Ok(Cow::Borrowed(&labels[start..start + length]))
            }
        }
    }
}

fn describe(key: &UpdateKey) -> String {
    match key {
        UpdateKey::SealedFile(path) => path.display().to_string(),
        UpdateKey::Sealed(sealed) => format!(
            "sector {} of {:?}",
            sealed.sector_id, sealed.registered_proof
        ),
    }
}

/// Decodes `nodes` in place; the first one is node `first` of the sector.
fn decode_nodes(task: &SnapDecode, first: usize, nodes: &mut [u8], keys: &[u8]) -> Result<()> {
    nodes
        .par_chunks_mut(THREAD_BLOCK)
        .zip(keys.par_chunks(THREAD_BLOCK))
        .enumerate()
        .try_for_each(|(index, (nodes, keys))| {
            let mut decoded = Vec::with_capacity(nodes.len());
            empty_sector_update_decode_from_range(
                task.registered_proof,
                task.comm_d_new,
                task.comm_r_old,
                &*nodes,
                keys,
                &mut decoded,
                first + index * THREAD_NODES,
                nodes.len() / NODE_SIZE as usize,
            )?;
            nodes.copy_from_slice(&decoded);
            Ok(())
        })
}
