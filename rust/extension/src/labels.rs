//! What PC1 finds on a machine: parents caches, and files of huge pages for its labels.

use std::path::PathBuf;

use proofs::{look_at_parents_cache, ParentsCacheCheck, RegisteredSealProof};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::de::value::{Error, StrDeserializer};
use serde::de::IntoDeserializer;
use serde::Deserialize;

use crate::watch::{Cancel, Watch};

/// Make the parents cache of a seal proof, or check the one that is there; returns its path, and what
/// is worth telling.
#[pyfunction]
#[pyo3(signature = (registered_proof, directory=None, progress=None, cancel=None))]
fn parents_cache(
    py: Python<'_>,
    registered_proof: &str,
    directory: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
    cancel: Option<Py<Cancel>>,
) -> PyResult<(PathBuf, Vec<String>)> {
    let proof = seal_proof(registered_proof)?;
    Watch { progress, cancel }.run(py, |control| {
        let mut notes = Vec::new();
        let path = proofs::parents_cache(proof, directory.as_deref(), control, &mut |note| {
            notes.push(note);
        })?;
        Ok((path, notes))
    })
}

/// The parents cache file of a seal proof: path, bytes it must have, its state, and why it is bad.
#[pyfunction]
#[pyo3(signature = (registered_proof, read=false, progress=None, cancel=None))]
fn parents_cache_file(
    py: Python<'_>,
    registered_proof: &str,
    read: bool,
    progress: Option<Py<PyAny>>,
    cancel: Option<Py<Cancel>>,
) -> PyResult<(PathBuf, u64, &'static str, String)> {
    let proof = seal_proof(registered_proof)?;
    let file = Watch { progress, cancel }
        .run(py, |control| look_at_parents_cache(proof, read, control))?;
    let (state, why) = match file.check {
        None => ("not compared", String::new()),
        Some(ParentsCacheCheck::Good) => ("whole", String::new()),
        Some(ParentsCacheCheck::Missing) => ("missing", String::new()),
        Some(ParentsCacheCheck::Bad(why)) => ("bad", why),
    };
    Ok((file.path, file.size, state, why))
}

/// Make files for label memory in `directory`, which is created, with their memory on `node` if given;
/// returns their paths.
#[pyfunction]
#[pyo3(signature = (directory, size, count, node=None))]
fn create_hugepage_files(
    py: Python<'_>,
    directory: PathBuf,
    size: u64,
    count: u32,
    node: Option<u32>,
) -> PyResult<Vec<PathBuf>> {
    Watch::none().run(py, |_| {
        sdr::arena::create_files(&directory, size, count, node)
    })
}

fn seal_proof(name: &str) -> PyResult<RegisteredSealProof> {
    let name: StrDeserializer<'_, Error> = name.into_deserializer();
    RegisteredSealProof::deserialize(name).map_err(|error| PyValueError::new_err(error.to_string()))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(parents_cache, m)?)?;
    m.add_function(wrap_pyfunction!(parents_cache_file, m)?)?;
    m.add_function(wrap_pyfunction!(create_hugepage_files, m)?)
}
