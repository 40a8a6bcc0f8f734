//! What this build is and what the machine's processor offers it.

use std::collections::BTreeMap;

use pyo3::prelude::*;

/// The processor features that decide the speed of sealing: found at run time, and compiled in.
macro_rules! features {
    ($($name:tt),*) => {{
        #[cfg(target_arch = "x86_64")]
        let found: Vec<&str> = [$(($name, std::is_x86_feature_detected!($name))),*]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
            .collect();
        #[cfg(not(target_arch = "x86_64"))]
        let found: Vec<&str> = Vec::new();
        let compiled: Vec<&str> = [$(($name, cfg!(target_feature = $name))),*]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
            .collect();
        (found, compiled)
    }};
}

/// Versions of this package and the proofs crates, `commit` (`GIT_COMMIT` of the build), `profile`
/// (the cargo build profile), `gpu` (the kind of GPU code compiled in: `none`, `cuda` or `opencl`),
/// `cpu_features` (of this machine) and `compiled_features` (which every machine that runs this
/// build must have), the last two as names separated by spaces.
#[pyfunction]
fn version_info() -> BTreeMap<&'static str, String> {
    let (found, compiled) = features!(
        "sse4.1",
        "sha",
        "avx2",
        "bmi2",
        "adx",
        "avx512f",
        "avx512vl",
        "avx512ifma"
    );
    let mut info: BTreeMap<&'static str, String> = env!("LOCKED_VERSIONS")
        .split(' ')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, version)| (name, version.to_owned()))
        .collect();
    info.insert("damocles-worker", env!("CARGO_PKG_VERSION").to_owned());
    info.insert(
        "commit",
        option_env!("GIT_COMMIT").unwrap_or("unknown").to_owned(),
    );
    info.insert("profile", env!("BUILD_PROFILE").to_owned());
    let gpu = match (cfg!(feature = "cuda"), cfg!(feature = "opencl")) {
        (true, _) => "cuda",
        (_, true) => "opencl",
        _ => "none",
    };
    info.insert("gpu", gpu.to_owned());
    info.insert("cpu_features", found.join(" "));
    info.insert("compiled_features", compiled.join(" "));
    info
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(version_info, m)?)
}
