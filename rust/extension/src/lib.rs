//! `damocles_worker._native`: the Rust crates as a Python module.
//!
//! Every call that computes or does I/O releases the GIL, and every failure, a panic too, is an
//! exception.

mod checksum;
mod labels;
mod logging;
mod params;
mod stages;
mod toml;
mod version;
mod watch;

use pyo3::prelude::*;

#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    checksum::register(m)?;
    logging::register(m)?;
    watch::register(m)?;
    stages::register(m)?;
    labels::register(m)?;
    version::register(m)?;
    toml::register(m)?;
    params::register(m)?;
    // The stub names what there is; pyo3's list would be a second one, to be kept equal by hand.
    m.delattr("__all__")
}
