//! The directory that the trees of all versions are in.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use anyhow::{ensure, Context, Result};

const VARIABLE: &str = "DAMOCLES_WORKER_RUNTIME_DIR";
/// What to do when the directory won't do.
pub const NEXT_STEP: &str =
    "Set DAMOCLES_WORKER_RUNTIME_DIR to a directory of your own that has room and may run programs";

/// `$DAMOCLES_WORKER_RUNTIME_DIR`, else the system's directory for root, else the user's. Never the
/// temporary directory: it is emptied under programs that run for weeks.
pub fn directory() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(named) = set(VARIABLE) {
        return path::absolute(named).context(VARIABLE);
    }
    if user() == 0 {
        return Ok("/var/lib/damocles-worker/runtime".into());
    }
    let data = set("XDG_DATA_HOME").filter(|data| data.is_absolute());
    let home = || Some(set("HOME").or_else(home)?.join(".local/share"));
    let data = data.or_else(home);
    let data = data.with_context(|| format!("user {} has no home. {NEXT_STEP}", user()))?;
    Ok(data.join("damocles-worker/runtime"))
}

/// Create the directory. One that others can write to is refused: they could change what is run.
pub fn create(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    let found = fs::metadata(path)?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    ensure!(
        owner == 0 || owner == user(),
        "it belongs to user {owner}, this is user {}",
        user()
    );
    ensure!(
        mode & 0o022 == 0,
        "others may write to it (mode {mode:o}); chmod go-w it"
    );
    Ok(())
}

fn user() -> u32 {
    // SAFETY: it has no arguments and can't fail.
    unsafe { libc::geteuid() }
}

/// The home directory in /etc/passwd: the C library's look-up can't be part of a static program.
fn home() -> Option<PathBuf> {
    let (users, user) = (fs::read_to_string("/etc/passwd").ok()?, user().to_string());
    let mut users = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let found = users.find(|fields| fields.get(2) == Some(&user.as_str()))?;
    found
        .get(5)
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}
