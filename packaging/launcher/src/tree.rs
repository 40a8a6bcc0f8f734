//! The files of one version: check, write, remove.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{ensure, Context, Result};
use sha2::{Digest, Sha256};

use crate::bundle::{Bundle, Entry};

/// The lock of a tree, held by everything that runs from it.
pub const IN_USE: &str = ".in-use";
const PARTIAL: &str = ".partial";
/// Every file has this modification time (seconds). Who writes to one changes it, so that the check
/// at a start has only to look at the directory.
const MODIFIED: u32 = 1_000_000_000;

/// Open a lock file. One that exists need not be writable, as on a read-only mount.
pub fn open_lock(path: &Path) -> Result<File> {
    let created = OpenOptions::new().create(true).append(true).open(path);
    let opened = created.or_else(|error| File::open(path).or(Err(error)));
    opened.with_context(|| format!("open {}", path.display()))
}

/// Write every file that is missing or changed. Each is whole and flushed before it gets its name: a
/// kill leaves what the next start completes, and who runs from the tree keeps the files it has open.
pub fn repair(root: &Path, bundle: &mut Bundle) -> Result<()> {
    let is_right = |entry: &Entry| looks_right(&root.join(&entry.path), entry);
    let wrong = bundle.entries.iter().rposition(|entry| !is_right(entry));
    for entry in &bundle.entries[..wrong.map_or(0, |last| last + 1)] {
        let path = root.join(&entry.path);
        let mut content = bundle.contents.by_ref().take(entry.size);
        if is_right(entry) {
            io::copy(&mut content, &mut io::sink()).context("read this executable")?;
        } else {
            write(&root.join(PARTIAL), &path, entry, &mut content)
                .with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

fn looks_right(path: &Path, entry: &Entry) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        let modified = (found.mtime(), found.mtime_nsec()) == (MODIFIED.into(), 0);
        let mode = found.mode() & 0o7777;
        found.is_file() && modified && found.len() == entry.size && mode == entry.mode
    })
}

fn write(partial: &Path, path: &Path, entry: &Entry, content: &mut impl Read) -> Result<()> {
    let mut bytes = Vec::new();
    let read = content.read_to_end(&mut bytes);
    let is_whole = read.is_ok() && hex::encode(Sha256::digest(&bytes)) == entry.digest;
    ensure!(is_whole, "this executable is damaged; copy it again");
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut file = File::create(partial)?;
    file.write_all(&bytes)?;
    file.set_permissions(Permissions::from_mode(entry.mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED.into()))?;
    file.sync_all()?;
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    }
    Ok(fs::rename(partial, path)?)
}

/// Remove the trees in `runtime` other than `ours` that nothing runs from. What can't be removed now
/// is left to a later start: it doesn't keep this one from running.
pub fn remove_unused(runtime: &Path, ours: &Path) {
    let is_tree = |name: &str| name.len() == 16 && name.bytes().all(|c| c.is_ascii_hexdigit());
    let in_use = |tree: &Path| File::open(tree.join(IN_USE)).is_ok_and(|f| f.try_lock().is_err());
    for found in fs::read_dir(runtime).into_iter().flatten().flatten() {
        let path = found.path();
        if found.file_name().to_str().is_some_and(is_tree) && path != ours && !in_use(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
