//! PC1 (label layers) and PC2 (column and replica trees, encoding): from staged data to a replica.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use filecoin_proofs::pieces::verify_pieces;
use filecoin_proofs::types::{SectorSize, StoreConfig};
use filecoin_proofs_api::seal::{
    seal_pre_commit_phase1, seal_pre_commit_phase2, SealPreCommitPhase1Output,
    SealPreCommitPhase2Output,
};
use filecoin_proofs_api::{Commitment, RegisteredSealProof};
use serde_json::json;
use storage_proofs_core::cache_key::CacheKey;

use crate::cache::{remove_pc1_results, remove_pc2_results, require_tree_d};
use crate::control::Control;
use crate::durable::{sync_dir, sync_file, sync_parent, PartialFile};
use crate::engine_choice::Computer;
use crate::failure::guarded;
use crate::labelling::{label, Identity};
use crate::pieces::fill;
use crate::replication::{replicate, shape_of};
use crate::sector::{
    layers, require_dir, require_size, size_of, tree_d_size, NODE_SIZE, TREE_D_FILE,
};
use crate::tasks::{PC1, PC2};

/// Bytes of the staged file that are copied between two looks at the cancel flag.
const COPY_STEP: u64 = 64 << 20;

/// Copies the staged file to the sealed file and writes the label layers into the cache directory.
///
/// Needs there: the staged file at the sector's size, and tree_d (a link will do). The sealed file
/// is created if missing; with `empty_sealed_file` the engine gives it the sector's size only.
///
/// The engine of the `sdr` crate labels. A run that was cut is taken up again: layers in the cache
/// directory that are this replica's, with the right checksum, are kept. Progress is in labels (in
/// nodes of the parents cache while that is made), and the run can be cancelled at any time.
///
/// With `DAMOCLES_PC1_ENGINE=crate` the proofs library labels. Layers of an earlier run are removed
/// then, since it would take any file of the right size, and the cancel flag is looked at before the
/// start only.
pub fn pc1(task: PC1, control: &mut Control<'_>) -> Result<SealPreCommitPhase1Output> {
    guarded(|| {
        control.check()?;
        let labeller = Computer::from_env("DAMOCLES_PC1_ENGINE", "sdr")?;
        let sector_size = size_of(task.registered_proof);
        require_dir("cache directory", &task.cache_path)?;
        require_size("staged file", &task.in_path, sector_size)?;
        require_tree_d(&task.cache_path, sector_size)?;
        let output = match labeller {
            Computer::Engine => pc1_by_engine(&task, control)?,
            Computer::Library => pc1_by_library(&task)?,
        };
        let labels = sector_size / NODE_SIZE * layers(sector_size)? as u64;
        control.finish(labels)?;
        Ok(output)
    })
}

fn pc1_by_engine(task: &PC1, control: &mut Control<'_>) -> Result<SealPreCommitPhase1Output> {
    let comm_d = comm_d_of_pieces(task)?;
    if task.empty_sealed_file {
        make_empty(&task.out_path, size_of(task.registered_proof))?;
    } else {
        copy_staged(&task.in_path, &task.out_path, control)?;
    }
    let identity = Identity {
        registered_proof: task.registered_proof,
        prover_id: task.prover_id,
        sector_id: task.sector_id,
        ticket: task.ticket,
        comm_d,
    };
    let outcome = label(&identity, &task.cache_path, control)?;
    log::info!(
        "PC1 of sector {}: layers kept {:?}, {:.1} s of which {:.1} s hashing",
        task.sector_id,
        outcome.kept,
        outcome.wall.as_secs_f64(),
        outcome.hashing.as_secs_f64()
    );
    pc1_output(task.registered_proof, &task.cache_path, comm_d)
}

fn pc1_by_library(task: &PC1) -> Result<SealPreCommitPhase1Output> {
    remove_pc1_results(&task.cache_path)?;
    File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&task.out_path)
        .with_context(|| format!("create sealed file {}", task.out_path.display()))?;
    let output = seal_pre_commit_phase1(
        task.registered_proof,
        &task.cache_path,
        &task.in_path,
        &task.out_path,
        task.prover_id,
        task.sector_id.into(),
        task.ticket,
        &fill(size_of(task.registered_proof), &task.piece_infos)?,
    )?;
    sync_dir(&task.cache_path)?;
    sync_file(&task.out_path)?;
    sync_parent(&task.out_path)?;
    Ok(output)
}

/// The root of tree_d, if it is comm_d of the task's pieces.
fn comm_d_of_pieces(task: &PC1) -> Result<Commitment> {
    let sector_size = size_of(task.registered_proof);
    let tree_d = task.cache_path.join(TREE_D_FILE);
    let mut comm_d = Commitment::default();
    File::open(&tree_d)
        .and_then(|file| file.read_exact_at(&mut comm_d, tree_d_size(sector_size) - NODE_SIZE))
        .with_context(|| format!("read tree_d {}", tree_d.display()))?;
    ensure!(
        verify_pieces(
            &comm_d,
            &fill(sector_size, &task.piece_infos)?,
            SectorSize(sector_size)
        )?,
        "tree_d {}: its root is {}, which is not comm_d of the task's piece_infos; stage the pieces and \
         build tree_d again",
        tree_d.display(),
        hex::encode(comm_d)
    );
    Ok(comm_d)
}

/// Replaces the sealed file by one of `size` zero bytes that takes no space.
fn make_empty(sealed: &Path, size: u64) -> Result<()> {
    let empty = PartialFile::create(sealed)?;
    empty
        .file
        .set_len(size)
        .with_context(|| format!("set size of {}", sealed.display()))?;
    empty.publish()
}

/// Replaces the sealed file by a copy of the staged one, which is on the disk when this returns. Where the
/// file system can, both share their blocks.
fn copy_staged(staged: &Path, sealed: &Path, control: &Control<'_>) -> Result<()> {
    let from = File::open(staged).with_context(|| format!("open {}", staged.display()))?;
    let mut copy = PartialFile::create(sealed)?;
    // SAFETY: the call takes two open descriptors and touches no memory.
    let cloned = unsafe { libc::ioctl(copy.file.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) };
    if cloned == 0 {
        return copy.publish();
    }
    loop {
        control.check()?;
        let copied = io::copy(&mut (&from).take(COPY_STEP), &mut copy.file).with_context(|| {
            format!(
                "copy staged file {} to sealed file {}",
                staged.display(),
                sealed.display()
            )
        })?;
        if copied == 0 {
            return copy.publish();
        }
    }
}

/// PC1's output for the layers and tree_d in `cache_dir`. The library keeps the constructor of its
/// labels to itself; it reads them from JSON.
fn pc1_output(
    registered_proof: RegisteredSealProof,
    cache_dir: &Path,
    comm_d: Commitment,
) -> Result<SealPreCommitPhase1Output> {
    let sector_size = size_of(registered_proof);
    let leaves = usize::try_from(sector_size / NODE_SIZE)?;
    let store = |id: String, nodes| StoreConfig {
        size: Some(nodes),
        ..StoreConfig::new(cache_dir, id, 0)
    };
    let layers: Vec<StoreConfig> = (1..=layers(sector_size)?)
        .map(|layer| store(CacheKey::label_layer(layer), leaves))
        .collect();
    // Labels are named after the size, whatever the version of the proof type.
    let name = format!("{registered_proof:?}");
    let (size_name, _) = name
        .split_once("V1")
        .with_context(|| format!("{name}: expected a proof type of version 1"))?;
    let labels = json!({ format!("{size_name}V1"): { "labels": layers, "_h": null } });
    Ok(SealPreCommitPhase1Output {
        registered_proof,
        labels: serde_json::from_value(labels).context("labels of the PC1 output")?,
        config: store(CacheKey::CommDTree.to_string(), 2 * leaves - 1),
        comm_d,
    })
}

/// Builds tree_c and tree_r_last, and replaces the sealed file by the replica.
///
/// Needs there: the label layers and tree_d in the cache directory, a sealed file of the sector's size.
/// The paths inside `pc1out` are not used: the task's are. Trees and aux files of an earlier run are
/// removed.
///
/// The engine of the `pc2` crate takes the data from the leaves of tree_d and writes the replica beside
/// the sealed file, which it replaces at the end: a run that was cut leaves it as it was. The next run
/// goes on after the last finished base tree. A layer that is not what PC1 wrote ends it with a
/// [`DamagedLayer`](pc2::DamagedLayer). Progress is in elements hashed, and the run can be cancelled.
///
/// With `DAMOCLES_PC2_ENGINE=crate` the proofs library does it: it encodes the sealed file in place, so
/// that must hold the staged data as PC1 left it, and a run that was cut has to start from a fresh copy
/// of the staged file. The cancel flag is looked at before the start only.
pub fn pc2(task: PC2, control: &mut Control<'_>) -> Result<SealPreCommitPhase2Output> {
    guarded(|| {
        control.check()?;
        let replicator = Computer::from_env("DAMOCLES_PC2_ENGINE", "pc2")?;
        let sector_size = size_of(task.pc1out.registered_proof);
        require_dir("cache directory", &task.cache_dir)?;
        require_size("sealed file", &task.sealed_file, sector_size)?;
        require_tree_d(&task.cache_dir, sector_size)?;
        match replicator {
            Computer::Engine => replicate(&task, control),
            Computer::Library => pc2_by_library(task, control),
        }
    })
}

fn pc2_by_library(task: PC2, control: &mut Control<'_>) -> Result<SealPreCommitPhase2Output> {
    let sector_size = size_of(task.pc1out.registered_proof);
    // The library takes layers for their size.
    let shape = shape_of(sector_size)?;
    pc2::verify_layers(&shape, &task.cache_dir, &mut || control.check())?;
    remove_pc2_results(&task.cache_dir)?;
    let output = seal_pre_commit_phase2(task.pc1out, &task.cache_dir, &task.sealed_file)?;
    sync_dir(&task.cache_dir)?;
    sync_file(&task.sealed_file)?;
    control.finish(sector_size)?;
    Ok(output)
}
