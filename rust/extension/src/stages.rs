//! The stages: task JSON in, output JSON out.

use std::path::PathBuf;

use anyhow::Context;
use proofs::{Commitment, Control, PieceInfo};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::watch::{Cancel, Watch};

/// Reads the task, runs the stage and writes its output, all with the GIL released.
fn run<'py, Task: DeserializeOwned, Output: Serialize>(
    py: Python<'py>,
    name: &str,
    task: &[u8],
    watch: &Watch,
    stage: impl FnOnce(Task, &mut Control<'_>) -> anyhow::Result<Output> + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    let output = watch.run(py, |control| {
        let output = stage(parse(name, task)?, control)?;
        serde_json::to_vec(&output).with_context(|| format!("{name} output"))
    })?;
    Ok(PyBytes::new(py, &output))
}

fn parse<Task: DeserializeOwned>(name: &str, task: &[u8]) -> anyhow::Result<Task> {
    serde_json::from_slice(task).with_context(|| format!("{name} task"))
}

/// A stage as a Python function `(task, progress=None, cancel=None) -> bytes`.
macro_rules! stage {
    ($name:ident, $doc:literal, $call:expr) => {
        #[doc = $doc]
        #[pyfunction]
        #[pyo3(signature = (task, progress=None, cancel=None))]
        fn $name<'py>(
            py: Python<'py>,
            task: &[u8],
            progress: Option<Py<PyAny>>,
            cancel: Option<Py<Cancel>>,
        ) -> PyResult<Bound<'py, PyBytes>> {
            run(
                py,
                stringify!($name),
                task,
                &Watch { progress, cancel },
                $call,
            )
        }
    };
}

stage!(
    add_pieces,
    "Write the pieces, fr32 padded, into the staged file; output: their infos.",
    |task, control| proofs::add_pieces(&task, control)
);
stage!(
    tree_d,
    "Build tree_d of the staged file in the cache directory; output: true.",
    |task, control| proofs::tree_d(&task, control).map(|()| true)
);
stage!(
    pc1,
    "Compute the label layers; output: the PC1 output.",
    proofs::pc1
);
stage!(
    pc2,
    "Build tree_c and tree_r_last and encode the sealed file; output: the PC2 output.",
    proofs::pc2
);
stage!(
    synth_proof,
    "Write the synthetic vanilla proofs into the cache directory; output: true.",
    |task, control| proofs::synth_proof(task, control).map(|()| true)
);
stage!(
    c1,
    "Compute the vanilla proofs; output: the C1 output.",
    proofs::c1
);
stage!(
    c2,
    "Compute the SNARK; output: {\"proof\": [..]}.",
    proofs::c2
);
stage!(
    snap_encode,
    "Encode the staged data into the update file; output: the new commitments.",
    |task, control| proofs::snap_encode(&task, control)
);
stage!(
    snap_vanilla,
    "Compute the vanilla proofs of an upgrade; output: one array of integers per partition.",
    |task, control| proofs::snap_vanilla(&task, control)
);
stage!(
    snap_prove,
    "Compute the SNARK of an upgrade; output: an array of integers.",
    proofs::snap_prove
);
stage!(
    unseal,
    "Write a range of a sealed sector's data; output: the bytes written.",
    |task, control| proofs::unseal(&task, control)
);
stage!(
    snap_decode,
    "Write a range of an upgraded sector's data; output: the bytes written.",
    |task, control| proofs::snap_decode(&task, control)
);
stage!(
    window_post,
    "Prove sectors; output: {\"proofs\": [base64], \"faults\": [..]}.",
    |task, control| proofs::window_post(&task, control)
);
stage!(
    winning_post,
    "Prove the challenged sector; output: {\"proofs\": [base64]}.",
    |task, control| proofs::winning_post(&task, control)
);

/// A verification as a Python function `(task) -> bool`.
macro_rules! verification {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[pyfunction]
        fn $name(py: Python<'_>, task: &[u8]) -> PyResult<bool> {
            Watch::none().run(py, |_| proofs::$name(&parse(stringify!($name), task)?))
        }
    };
}

verification!(verify_seal, "Whether a seal proof holds.");
verification!(verify_snap, "Whether the proof of an upgrade holds.");
verification!(verify_window_post, "Whether a window PoSt holds.");
verification!(verify_winning_post, "Whether a winning PoSt holds.");

/// Remove layers, tree_c and tree_d from a cache directory.
#[pyfunction]
fn clear_cache(py: Python<'_>, task: &[u8]) -> PyResult<()> {
    Watch::none().run(py, |_| proofs::clear_cache(&parse("clear_cache", task)?))
}

/// Build the tree_d of a sector of zeros in `directory`.
#[pyfunction]
#[pyo3(signature = (size, directory, progress=None, cancel=None))]
fn static_tree_d(
    py: Python<'_>,
    size: u64,
    directory: PathBuf,
    progress: Option<Py<PyAny>>,
    cancel: Option<Py<Cancel>>,
) -> PyResult<()> {
    Watch { progress, cancel }.run(py, |control| {
        proofs::static_tree_d(size, &directory, control)
    })
}

/// Commitment of a piece: the file's first `payload_size` bytes, then zeros.
#[pyfunction]
#[pyo3(signature = (path, payload_size, piece_size_unpadded, progress=None, cancel=None))]
fn piece_commitment<'py>(
    py: Python<'py>,
    path: PathBuf,
    payload_size: u64,
    piece_size_unpadded: u64,
    progress: Option<Py<PyAny>>,
    cancel: Option<Py<Cancel>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let commitment = Watch { progress, cancel }.run(py, |control| {
        proofs::piece_commitment(&path, payload_size, piece_size_unpadded, control)
    })?;
    Ok(PyBytes::new(py, &commitment))
}

/// comm_d of a sector from its pieces' commitments and unpadded sizes.
#[pyfunction]
fn data_commitment<'py>(
    py: Python<'py>,
    sector_size: u64,
    pieces: Vec<(Commitment, u64)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let commitment = Watch::none().run(py, |_| {
        let pieces: Vec<PieceInfo> = pieces
            .into_iter()
            .map(|(commitment, size)| PieceInfo {
                commitment,
                size: proofs::UnpaddedBytesAmount(size),
            })
            .collect();
        proofs::data_commitment(sector_size, &pieces)
    })?;
    Ok(PyBytes::new(py, &commitment))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(add_pieces, m)?)?;
    m.add_function(wrap_pyfunction!(tree_d, m)?)?;
    m.add_function(wrap_pyfunction!(pc1, m)?)?;
    m.add_function(wrap_pyfunction!(pc2, m)?)?;
    m.add_function(wrap_pyfunction!(synth_proof, m)?)?;
    m.add_function(wrap_pyfunction!(c1, m)?)?;
    m.add_function(wrap_pyfunction!(c2, m)?)?;
    m.add_function(wrap_pyfunction!(snap_encode, m)?)?;
    m.add_function(wrap_pyfunction!(snap_vanilla, m)?)?;
    m.add_function(wrap_pyfunction!(snap_prove, m)?)?;
    m.add_function(wrap_pyfunction!(unseal, m)?)?;
    m.add_function(wrap_pyfunction!(snap_decode, m)?)?;
    m.add_function(wrap_pyfunction!(window_post, m)?)?;
    m.add_function(wrap_pyfunction!(winning_post, m)?)?;
    m.add_function(wrap_pyfunction!(verify_seal, m)?)?;
    m.add_function(wrap_pyfunction!(verify_snap, m)?)?;
    m.add_function(wrap_pyfunction!(verify_window_post, m)?)?;
    m.add_function(wrap_pyfunction!(verify_winning_post, m)?)?;
    m.add_function(wrap_pyfunction!(clear_cache, m)?)?;
    m.add_function(wrap_pyfunction!(static_tree_d, m)?)?;
    m.add_function(wrap_pyfunction!(piece_commitment, m)?)?;
    m.add_function(wrap_pyfunction!(data_commitment, m)?)
}
