//! Groth16 parameters: what each set is called and how large it is, and the local generator.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, Context};
use params::{generate_local, Monitor, ParameterSet, SEED};
use proofs::failure::guarded;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::watch::{Cancel, Watch};

/// How often a running generation is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn parameter_set(kind: &str, sector_size: u64) -> PyResult<ParameterSet> {
    kind.parse()
        .and_then(|kind| ParameterSet::new(kind, sector_size))
        .map_err(value_error)
}

fn value_error(error: anyhow::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The circuit behind a parameter set, and what the proving library calls the set.
#[pyclass(frozen, get_all, module = "damocles_worker._native")]
struct CircuitInfo {
    /// Stem of the set's file names.
    name: String,
    /// Public inputs, the constant one among them: the length of the verifying key's ic.
    inputs: usize,
    /// Private variables: the length of the l query.
    aux: usize,
    /// Points of the evaluation domain: the h query is one shorter.
    domain: usize,
    /// Bytes of the .params file, where it is known.
    params_bytes: Option<u64>,
}

/// The circuit of `kind` (porep, update, winning, window) for sectors of `sector_size` bytes.
#[pyfunction]
fn circuit_info(kind: &str, sector_size: u64) -> PyResult<CircuitInfo> {
    let set = parameter_set(kind, sector_size)?;
    let identity = set.identity().map_err(value_error)?;
    let shape = set.shape();
    Ok(CircuitInfo {
        name: identity.name,
        inputs: shape.inputs,
        aux: shape.aux,
        domain: shape.domain(),
        params_bytes: set.local_bytes(),
    })
}

/// The directory where the proving library looks for parameters; read once per process.
#[pyfunction]
fn parameter_cache_dir() -> PathBuf {
    params::cache_dir()
}

/// The published digests by file name: the first 32 hexadecimal digits of BLAKE2b-512.
#[pyfunction]
fn published_digests() -> BTreeMap<&'static str, &'static str> {
    params::published_digests().collect()
}

/// The public seed that local parameters are derived from.
#[pyfunction]
fn parameter_seed() -> &'static str {
    SEED
}

/// Write the local, insecure parameters of a set into `path`, an existing file, and fsync it.
///
/// Returns the content of the .vk and of the .meta file. `progress` gets work done and in total, in
/// G1 points; the total is 0 at first and shrinks once.
#[pyfunction]
#[pyo3(signature = (kind, sector_size, path, progress=None, cancel=None))]
fn generate_parameters<'py>(
    py: Python<'py>,
    kind: &str,
    sector_size: u64,
    path: PathBuf,
    progress: Option<Py<PyAny>>,
    cancel: Option<Py<Cancel>>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let set = parameter_set(kind, sector_size)?;
    let (verifying_key, metadata) = Watch { progress, cancel }.run(py, |control| {
        let monitor = Monitor::default();
        // The generation has a thread of its own, so that the caller's can report, see the cancel
        // flag and handle signals meanwhile.
        thread::scope(|scope| {
            let generation = scope.spawn(|| guarded(|| write(&set, path, &monitor)));
            while !generation.is_finished() {
                thread::sleep(LOOK);
                let (done, total) = monitor.progress();
                if let Err(error) = control.step(done, total) {
                    monitor.stop();
                    return Err(error);
                }
            }
            generation
                .join()
                .map_err(|_| anyhow!("the generation's thread panicked"))?
        })
    })?;
    Ok((
        PyBytes::new(py, &verifying_key),
        PyBytes::new(py, &metadata),
    ))
}

fn write(
    set: &ParameterSet,
    path: PathBuf,
    monitor: &Monitor,
) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let describe = || path.display().to_string();
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(describe)?;
    let generated = generate_local(set, &file, monitor).with_context(describe)?;
    file.sync_all().with_context(describe)?;
    Ok((generated.verifying_key, set.identity()?.metadata))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<CircuitInfo>()?;
    m.add_function(wrap_pyfunction!(circuit_info, m)?)?;
    m.add_function(wrap_pyfunction!(parameter_cache_dir, m)?)?;
    m.add_function(wrap_pyfunction!(published_digests, m)?)?;
    m.add_function(wrap_pyfunction!(parameter_seed, m)?)?;
    m.add_function(wrap_pyfunction!(generate_parameters, m)?)
}
