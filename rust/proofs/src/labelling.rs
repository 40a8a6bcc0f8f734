//! Label layers by the engine of the `sdr` crate: one engine, and one parents cache per kind of
//! sector, for all sectors of the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{ensure, Context, Result};
use filecoin_proofs::constants::DefaultTreeHasher;
use filecoin_proofs::types::PoRepConfig;
use filecoin_proofs_api::{Commitment, ProverId, RegisteredSealProof, Ticket};
use sdr::graph::{GraphSpec, GraphVersion};
use sdr::parents::{default_dir, distrust, Damaged, ParentsCache};
use sdr::{Engine, Labels, Outcome, Progress, Sector, Watch};
use storage_proofs_core::api_version::ApiVersion;
use storage_proofs_porep::stacked::generate_replica_id;

use crate::cache::remove_pc1_results;
use crate::control::Control;
use crate::failure::guarded;
use crate::sector::layers;

static ENGINE: Mutex<Option<Arc<Engine>>> = Mutex::new(None);
static PARENTS: Mutex<Vec<Arc<ParentsCache>>> = Mutex::new(Vec::new());

/// What a sector's labels depend on.
pub struct Identity {
    /// The type it is sealed with, feature included.
    pub registered_proof: RegisteredSealProof,
    pub prover_id: ProverId,
    pub sector_id: u64,
    pub ticket: Ticket,
    /// Commitment of the data it is sealed with.
    pub comm_d: Commitment,
}

impl Identity {
    fn sector(&self, control: &mut Control<'_>) -> Result<Sector> {
        ensure!(
            field::canonical::is_element(&self.comm_d),
            "comm_d {}: is no field element",
            hex::encode(self.comm_d)
        );
        let config = self.registered_proof.as_v1_config();
        let replica_id = generate_replica_id::<DefaultTreeHasher, _>(
            &self.prover_id,
            self.sector_id,
            &self.ticket,
            self.comm_d,
            &config.porep_id,
        );
        let sector_size = config.sector_size.into();
        Ok(Sector {
            parents: parents(graph(&config)?, control)?,
            replica_id: replica_id.into(),
            layers: layers(sector_size)?.try_into()?,
        })
    }
}

/// Writes the label layers of a sector into `cache_dir`. Layers of this replica id and proof type that
/// are there whole are kept, as their checksum files prove; others are computed.
///
/// Progress is in labels, those of layers that are kept counted as done. Before them a missing parents
/// cache is made: then it is in nodes of that cache.
pub fn label(identity: &Identity, cache_dir: &Path, control: &mut Control<'_>) -> Result<Outcome> {
    let sector = identity.sector(control)?;
    watched(identity.sector_id, control, |watch| {
        sdr::label_sector(engine()?.as_ref(), &sector, cache_dir, watch)
    })
    .inspect_err(|error| {
        if forget_if_damaged(error, &sector.parents) {
            // Their checksums are right whatever the parents were.
            if let Err(error) = remove_pc1_results(cache_dir) {
                say(format!("{error:#}"));
            }
        }
    })
}

/// The last label layer of a sector, which is the key of its replica: replica = data + key, node by
/// node. It is computed in memory of two sectors, of which one is in use until the labels are dropped.
/// Nothing but a missing parents cache is written to a file.
///
/// Progress as in [`label`].
pub fn last_layer(identity: &Identity, control: &mut Control<'_>) -> Result<Labels> {
    let sector = identity.sector(control)?;
    watched(identity.sector_id, control, |watch| {
        sdr::last_layer(engine()?.as_ref(), &sector, watch)
    })
    .inspect_err(|error| {
        forget_if_damaged(error, &sector.parents);
    })
    .context("compute the label layers")
}

/// Whether a parents cache was found damaged while it was used: the next sector opens the file anew.
fn forget_if_damaged(error: &anyhow::Error, used: &Arc<ParentsCache>) -> bool {
    let damaged = error.is::<Damaged>();
    if damaged {
        lock(&PARENTS).retain(|parents| !Arc::ptr_eq(parents, used));
    }
    damaged
}

/// Makes the parents cache of a proof type in `dir` (none: where PC1 looks for it), or reads the whole of the one
/// that is there and checks it, and returns its path. Progress is in nodes; `say` receives what is worth telling.
pub fn parents_cache(
    registered_proof: RegisteredSealProof,
    dir: Option<&Path>,
    control: &mut Control<'_>,
    say: &mut dyn FnMut(String),
) -> Result<PathBuf> {
    guarded(|| {
        control.check()?;
        let spec = graph(&registered_proof.as_v1_config())?;
        let dir = dir.map_or_else(default_dir, Path::to_owned);
        distrust(&dir, &spec);
        let cache = obtain(&dir, spec, control, say)?;
        control.finish(spec.nodes.into())?;
        Ok(cache.path().to_owned())
    })
}

fn obtain(
    dir: &Path,
    spec: GraphSpec,
    control: &mut Control<'_>,
    say: &mut dyn FnMut(String),
) -> Result<ParentsCache> {
    let threads = thread::available_parallelism()?.get();
    let mut report = |done, total| control.step(done, total);
    ParentsCache::obtain(dir, spec, threads, &mut report, say)
}

/// Runs `work` with `control` told how many labels there are, of how many, and the log each layer's rate.
fn watched<T>(
    sector_id: u64,
    control: &mut Control<'_>,
    work: impl FnOnce(&mut Watch<'_>) -> Result<T>,
) -> Result<T> {
    let mut told = None;
    work(&mut Watch {
        progress: &mut |progress| {
            if progress.hashed != told {
                told = progress.hashed;
                log_layer(sector_id, progress);
            }
            let (done, total) = labels(progress);
            control.step(done, total)
        },
        say: &mut say,
    })
}

fn log_layer(sector_id: u64, progress: &Progress) {
    if let (Some((layer, rate)), Some(left)) = (progress.hashed, progress.left) {
        log::info!(
            "PC1 of sector {sector_id}: layer {layer} of {} hashed at {:.3} M labels/s; about {} min left",
            progress.layers,
            rate / 1e6,
            left.as_secs().div_ceil(60)
        );
    }
}

/// Labels done and labels in all layers.
fn labels(progress: &Progress) -> (u64, u64) {
    let nodes = u64::from(progress.nodes);
    let finished = progress.layer.saturating_sub(1);
    (
        u64::from(finished) * nodes + u64::from(progress.node),
        u64::from(progress.layers) * nodes,
    )
}

pub(crate) fn graph(config: &PoRepConfig) -> Result<GraphSpec> {
    let version = match config.api_version {
        ApiVersion::V1_0_0 => GraphVersion::V1_0,
        ApiVersion::V1_1_0 | ApiVersion::V1_2_0 => GraphVersion::V1_1,
    };
    GraphSpec::new(config.porep_id, version, config.sector_size.into())
}

/// The engine, built at the first call for the CPUs that its thread may use.
fn engine() -> Result<Arc<Engine>> {
    let mut engine = lock(&ENGINE);
    if let Some(engine) = engine.as_ref() {
        return Ok(engine.clone());
    }
    let built = Arc::new(Engine::for_this_machine(&mut say)?);
    log::info!(
        "PC1 engine: {} kernel, {} cores, {} lanes each, {} files of label memory",
        built.kernel_name(),
        built.cores().count(),
        built.lanes(),
        built.arena().pool_files()
    );
    Ok(engine.insert(built).clone())
}

/// The parents cache of a graph, made if it is missing, and then mapped for the life of the process.
fn parents(spec: GraphSpec, control: &mut Control<'_>) -> Result<Arc<ParentsCache>> {
    let mapped = |parents: &[Arc<ParentsCache>]| {
        parents
            .iter()
            .find(|parents| *parents.spec() == spec)
            .cloned()
    };
    if let Some(parents) = mapped(&lock(&PARENTS)) {
        return Ok(parents);
    }
    // Not under the lock: this may take long, and other kinds of sectors need not wait. Two threads
    // that make the same file wait for each other by its lock file.
    let obtained = Arc::new(obtain(&default_dir(), spec, control, &mut say)?);
    let mut parents = lock(&PARENTS);
    if let Some(parents) = mapped(&parents) {
        return Ok(parents);
    }
    parents.push(obtained.clone());
    Ok(obtained)
}

fn say(text: String) {
    log::warn!("{text}");
}

/// A panic while one of these is locked leaves it as it was before: nothing to distrust.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
