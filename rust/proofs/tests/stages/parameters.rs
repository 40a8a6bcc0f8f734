//! Parameters for tests that prove: generated once per build directory, kept out of the user's cache.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use params::{generate_local, Kind, Monitor, ParameterSet};

/// The sectors that the tests have.
const SECTOR_SIZE: u64 = 2048;

/// Runs the ignored test `name` of this program with generated parameters for proofs of spacetime, in a
/// process of its own: the library reads once per process where its parameters are.
pub fn run_with_parameters(name: &str, engine: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .env("FIL_PROOFS_PARAMETER_CACHE", directory())
        .env("DAMOCLES_C2_ENGINE", engine)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(
        text.contains("1 passed"),
        "no test is called {name}: {text}"
    );
}

/// The directory with them.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parameters");
        fs::create_dir_all(&directory).unwrap();
        for kind in [Kind::WindowPoSt, Kind::WinningPoSt] {
            generate(kind, &directory);
        }
        directory
    })
}

/// The parameter file comes last: where it is, the set is whole. Other processes may do the same meanwhile.
fn generate(kind: Kind, directory: &Path) {
    let set = ParameterSet::new(kind, SECTOR_SIZE).unwrap();
    let name = set.identity().unwrap().name;
    let [parameters, key] = ["params", "vk"].map(|end| directory.join(format!("{name}.{end}")));
    if parameters.exists() {
        return;
    }
    let made = tempfile::tempdir_in(directory).unwrap();
    let [new_parameters, new_key] = ["params", "vk"].map(|name| made.path().join(name));
    let file = File::create_new(&new_parameters).unwrap();
    let generated = generate_local(&set, &file, &Monitor::default()).unwrap();
    fs::write(&new_key, generated.verifying_key).unwrap();
    fs::rename(new_key, key).unwrap();
    fs::rename(new_parameters, parameters).unwrap();
}
