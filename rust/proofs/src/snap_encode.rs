//! Upgrading a sector without data to one with data: encoding.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use filecoin_hashers::Domain;
use filecoin_proofs::constants::{DefaultPieceDomain, DefaultTreeDomain};
use filecoin_proofs_api::update::empty_sector_update_encode_into;
use filecoin_proofs_api::{Commitment, PieceInfo};
use pc2::{Commitments, Shape, Update};
use storage_proofs_update::constants::h_default;
use storage_proofs_update::{phi, rho};

use crate::cache::{remove_aux, remove_pc2_results, require_aux};
use crate::control::Control;
use crate::durable::{sync_dir, sync_file, sync_parent};
use crate::engine_choice::Computer;
use crate::failure::guarded;
use crate::merkle::{Node, NODE};
use crate::pieces::{data_commitment, fill};
use crate::replication::{engine, rows_to_discard, shape_of, write_aux};
use crate::sector::{require_dir, require_size, AUX_FILES, TREE_D_FILE};
use crate::snap::size_of;
use crate::tasks::{SnapEncode, SnapEncodeOutput};
use crate::tree_d;

/// Encodes the staged data with the sealed file as key into the update file, and writes its
/// tree_r_last and aux files into the update-cache directory.
///
/// Needs the sealed file, the staged file, `p_aux` and `t_aux` of the sector. Trees and aux files of an
/// earlier run are removed. A tree_d in the update-cache (a link will do) is used if its root is the
/// pieces' comm_d; else it is replaced by one that is built from the staged file.
///
/// The engine of the `pc2` crate takes the data from the leaves of tree_d. The update file appears, in place
/// of what is there, when it is whole. Progress is in elements hashed, and the run can be cancelled.
///
/// With `DAMOCLES_PC2_ENGINE=crate` the proofs library encodes into the update file, which is created, or
/// truncated. The cancel flag is looked at before the encoding only.
pub fn snap_encode(task: &SnapEncode, control: &mut Control<'_>) -> Result<SnapEncodeOutput> {
    guarded(|| {
        control.check()?;
        let encoder = Computer::from_env("DAMOCLES_PC2_ENGINE", "pc2")?;
        let sector_size = size_of(task.registered_proof);
        require_size("sealed file", &task.sector_path, sector_size)?;
        require_dir("cache directory", &task.sector_cache_path)?;
        require_aux(&task.sector_cache_path)?;
        require_size("staged file", &task.staged_data_path, sector_size)?;
        require_dir("update-cache directory", &task.new_cache_path)?;
        // The sector's own files would be truncated or removed.
        require_other("update file", &task.new_replica_path, &task.sector_path)?;
        require_other(
            "update-cache directory",
            &task.new_cache_path,
            &task.sector_cache_path,
        )?;

        let pieces = fill(sector_size, &task.piece_infos)?;
        let comm_d = data_commitment(sector_size, &pieces)?;
        require_data(task, comm_d, control)?;
        match encoder {
            Computer::Engine => by_engine(task, comm_d, control),
            Computer::Library => by_library(task, &pieces, control),
        }
    })
}

/// Sees to it that tree_d is that of the pieces.
fn require_data(task: &SnapEncode, comm_d: Commitment, control: &mut Control<'_>) -> Result<()> {
    let sector_size = size_of(task.registered_proof);
    let cache = &task.new_cache_path;
    if tree_d::root(cache, sector_size)? == Some(comm_d) {
        return Ok(());
    }
    tree_d::from_staged(sector_size, &task.staged_data_path, cache, control)?;
    let found = tree_d::root(cache, sector_size)?;
    ensure!(
        found == Some(comm_d),
        "staged file {}: its commitment is {}, that of the task's piece_infos is {}; stage the pieces again",
        task.staged_data_path.display(),
        tree_d::shown(found),
        hex::encode(comm_d)
    );
    Ok(())
}

fn by_engine(
    task: &SnapEncode,
    comm_d: Commitment,
    control: &mut Control<'_>,
) -> Result<SnapEncodeOutput> {
    let sector_size = size_of(task.registered_proof);
    let [p_aux, t_aux] = AUX_FILES.map(|name| task.sector_cache_path.join(name));
    let (comm_c, comm_r_old) = commitments(&p_aux)?;
    let t_aux = fs::read(&t_aux).with_context(|| format!("read {}", t_aux.display()))?;
    let shape = Shape {
        rows_to_discard: rows_to_discard(&t_aux)?,
        ..shape_of(sector_size)?
    };
    let factors = factors(comm_d, comm_r_old, shape.nodes)?;
    remove_aux(&task.new_cache_path)?;
    let update = Update {
        shape,
        cache_dir: &task.new_cache_path,
        key: &task.sector_path,
        data: &task.new_cache_path.join(TREE_D_FILE),
        comm_d,
        comm_c,
        factors: &factors,
        replica: &task.new_replica_path,
    };
    let mut total_work = 0;
    let mut watch = |done, total| {
        total_work = total;
        control.step(done, total)
    };
    let mut conclude = |new: &Commitments| write_aux(&task.new_cache_path, new, &t_aux);
    let new = engine()?.update(&update, &mut watch, &mut conclude)?;
    control.finish(total_work)?;
    Ok(SnapEncodeOutput {
        comm_r_new: new.comm_r,
        comm_r_last_new: new.comm_r_last,
        comm_d_new: comm_d,
    })
}

/// comm_c and comm_r of the sector whose `p_aux` this is.
fn commitments(p_aux: &Path) -> Result<(Node, Node)> {
    let aux = fs::read(p_aux).with_context(|| format!("read {}", p_aux.display()))?;
    let (nodes, rest) = aux.as_chunks::<NODE>();
    match (nodes, rest) {
        (&[comm_c, comm_r_last], []) => {
            let comm_r = poseidon::ARITY_2
                .hash_one(&[comm_c, comm_r_last])
                .with_context(|| format!("commitments in {}", p_aux.display()))?;
            Ok((comm_c, comm_r))
        }
        _ => bail!(
            "{}: {} bytes found, {} expected",
            p_aux.display(),
            aux.len(),
            2 * NODE
        ),
    }
}

/// What the data is multiplied with: one factor for each value of the high bits of a node's number.
fn factors(comm_d: Commitment, comm_r_old: Node, nodes: u64) -> Result<Vec<Node>> {
    let phi = phi(
        &DefaultPieceDomain::try_from_bytes(&comm_d)?,
        &DefaultTreeDomain::try_from_bytes(&comm_r_old)?,
    );
    let count = 1u32 << h_default(usize::try_from(nodes)?);
    Ok((0..count)
        .map(|high| rho(&phi, high).to_bytes_le())
        .collect())
}

fn by_library(
    task: &SnapEncode,
    pieces: &[PieceInfo],
    control: &mut Control<'_>,
) -> Result<SnapEncodeOutput> {
    let sector_size = size_of(task.registered_proof);
    remove_pc2_results(&task.new_cache_path)?;
    File::create(&task.new_replica_path)
        .and_then(|update| update.set_len(sector_size))
        .with_context(|| format!("create update file {}", task.new_replica_path.display()))?;
    let output = empty_sector_update_encode_into(
        task.registered_proof,
        &task.new_replica_path,
        &task.new_cache_path,
        &task.sector_path,
        &task.sector_cache_path,
        &task.staged_data_path,
        pieces,
    )?;
    sync_dir(&task.new_cache_path)?;
    sync_file(&task.new_replica_path)?;
    sync_parent(&task.new_replica_path)?;
    control.finish(sector_size)?;
    Ok(SnapEncodeOutput {
        comm_r_new: output.comm_r_new,
        comm_r_last_new: output.comm_r_last_new,
        comm_d_new: output.comm_d_new,
    })
}

/// Fails if both paths lead to the same file or directory.
fn require_other(what: &str, path: &Path, sector_path: &Path) -> Result<()> {
    // A path that leads nowhere yet is another one.
    if let (Ok(path), Ok(sector_path)) = (path.canonicalize(), sector_path.canonicalize()) {
        if path == sector_path {
            bail!(
                "{what} {}: is the sector's own, expected another one",
                path.display()
            );
        }
    }
    Ok(())
}
