//! The front of the one-file executable: unpacks the program behind it once into a directory of its
//! own, checks it at every start, and becomes it (`exec`, so there is one process).
//!
//! ```text
//! RUNTIME/lock                    held while a start looks at, writes or removes files below
//! RUNTIME/<content>/              the tree of one version, named by what is in it
//! RUNTIME/<content>/.in-use       locked by every process that runs from the tree
//! RUNTIME/<content>/.partial      the file that is being written; the next start writes over it
//! ```

mod bundle;
mod runtime;
mod tree;

use std::convert::Infallible;
use std::env;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{exit, Command};

use anyhow::{ensure, Context, Result};

use bundle::Bundle;

/// The number of the descriptor that holds the lock of the tree, for the program that is started.
const LOCK_VARIABLE: &str = "DAMOCLES_WORKER_TREE_LOCK";
const PROGRAM: &str = "damocles-worker";

fn main() {
    let Err(error) = start();
    eprintln!("error: {error:#}");
    exit(1);
}

/// Prepare the tree and become the program in it; comes back only with an error.
fn start() -> Result<Infallible> {
    let file = env::current_exe().context("what is this program? /proc has to be mounted")?;
    let mut bundle = Bundle::open(&file).with_context(|| {
        let file = file.display();
        format!("{file} is damaged; copy it again, and don't strip it. The cause")
    })?;
    let runtime = runtime::directory()?;
    let root = runtime.join(&bundle.name);
    let size: u64 = bundle.entries.iter().map(|entry| entry.size).sum();
    become_program(&runtime, &root, &mut bundle).with_context(|| {
        let (directory, megabytes, hint) =
            (runtime.display(), size / 1_000_000, runtime::NEXT_STEP);
        format!("can't run {PROGRAM} ({megabytes} MB) from {directory}. {hint}. The cause")
    })
}

fn become_program(runtime: &Path, root: &Path, bundle: &mut Bundle) -> Result<Infallible> {
    runtime::create(runtime)?;
    // Given back by the exec, which closes it.
    let gate = tree::open_lock(&runtime.join("lock"))?;
    gate.lock()?;
    fs::create_dir_all(root)?;
    let in_use = tree::open_lock(&root.join(tree::IN_USE))?;
    in_use.lock_shared()?;
    // SAFETY: the descriptor is open.
    let inherits = unsafe { libc::fcntl(in_use.as_raw_fd(), libc::F_SETFD, 0) };
    ensure!(inherits == 0, "the lock of the tree can't be inherited");
    tree::repair(root, bundle)?;
    tree::remove_unused(runtime, root);
    let mut arguments = env::args_os();
    let error = Command::new(root.join(PROGRAM))
        .arg0(arguments.next().unwrap_or_else(|| PROGRAM.into()))
        .args(arguments)
        .env(LOCK_VARIABLE, in_use.as_raw_fd().to_string())
        .exec();
    Err(error).context("start it (no permission: the directory is mounted noexec)")
}
