//! The pool of label files made beforehand, one directory per NUMA node.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use super::map::with_memory_on;
use super::Once;
use crate::lock::{try_exclusive, Lock};

/// What a pattern has in place of a node's number.
pub const PLACEHOLDER: &str = "$NUMA_NODE_INDEX";

/// Label files by node and size.
#[derive(Default)]
pub struct Pool {
    /// What the pool was made from, for messages.
    pattern: String,
    files: Vec<PoolFile>,
}

struct PoolFile {
    node: u32,
    size: u64,
    path: PathBuf,
}

impl Pool {
    /// The pool of the environment: `HUGEPAGE_FILES_PATH_PATTERN`, else `HUGEPAGE_FILES_PATH` with one
    /// directory `numa_<node>` per node, else an empty one. One that can't be had is told to `say`, and
    /// empty.
    pub fn from_env(say: &mut dyn FnMut(String)) -> Self {
        if let Ok(pattern) = env::var("HUGEPAGE_FILES_PATH_PATTERN") {
            return Self::load_or_empty(&pattern, say);
        }
        match env::var("HUGEPAGE_FILES_PATH") {
            Ok(dir) => Self::load_or_empty(
                &format!("{}/numa_{PLACEHOLDER}", dir.trim_end_matches('/')),
                say,
            ),
            Err(_) => Pool::default(),
        }
    }

    /// [`Pool::load`]; an error is told to `say`, and the pool is empty.
    pub fn load_or_empty(pattern: &str, say: &mut dyn FnMut(String)) -> Self {
        Self::load(pattern, say).unwrap_or_else(|error| {
            say(format!(
                "{error:#}; PC1 goes on without huge page files, in other memory"
            ));
            Pool::default()
        })
    }

    /// The files in every directory that `pattern` names with a node's number for its placeholder.
    /// Files that can't be opened and directories that can't be listed are told to `say` and left out.
    pub fn load(pattern: &str, say: &mut dyn FnMut(String)) -> Result<Self> {
        let trimmed = pattern.trim_end_matches('/');
        let Some((before, after)) = trimmed.split_once(PLACEHOLDER) else {
            bail!("huge page file pattern {pattern}: expected one {PLACEHOLDER} in it, in place of the node's \
                 number");
        };
        // The component that holds the placeholder, and what follows it.
        let (parent, prefix) = before
            .rsplit_once('/')
            .map_or((".", before), |(dir, prefix)| {
                (if dir.is_empty() { "/" } else { dir }, prefix)
            });
        let (suffix, rest) = after.split_once('/').unwrap_or((after, ""));
        let mut files = Vec::new();
        for (name, dir) in entries(Path::new(parent))? {
            let number = name
                .strip_prefix(prefix)
                .and_then(|name| name.strip_suffix(suffix));
            let Some(node) = number.and_then(|number| number.parse().ok()) else {
                continue;
            };
            let dir = if rest.is_empty() { dir } else { dir.join(rest) };
            let found = entries(&dir).unwrap_or_else(|error| {
                say(format!("{error:#}; its files are not used"));
                Vec::new()
            });
            for (_, path) in found {
                match open(&path) {
                    Ok(Some((_, size))) => files.push(PoolFile { node, size, path }),
                    Ok(None) => (),
                    Err(error) => say(format!(
                        "huge page file {}: not used: {error}",
                        path.display()
                    )),
                }
            }
        }
        files.sort_by(|a, b| (a.node, &a.path).cmp(&(b.node, &b.path)));
        Ok(Pool {
            pattern: pattern.to_owned(),
            files,
        })
    }

    /// Files in the pool.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A free file of exactly `size` bytes on `node` (on any, if none) that `map` can map, locked; in an
    /// unfruitful search `say` is told what there was.
    pub fn take<M>(
        &self,
        size: u64,
        node: Option<u32>,
        map: &mut dyn FnMut(&Lock) -> Result<M>,
        say: &mut Once<'_>,
    ) -> Option<(PathBuf, Lock, M)> {
        if self.pattern.is_empty() {
            return None;
        }
        let on_node = |file: &&PoolFile| node.is_none_or(|node| node == file.node);
        let fitting: Vec<_> = self
            .files
            .iter()
            .filter(on_node)
            .filter(|file| file.size == size)
            .collect();
        let mut held = 0;
        for file in &fitting {
            let taken = lock(file).and_then(|lock| match lock {
                Some(lock) => Ok(Some((map(&lock)?, lock))),
                None => Ok(None),
            });
            match taken {
                Ok(Some((mapped, lock))) => return Some((file.path.clone(), lock, mapped)),
                Ok(None) => held += 1,
                Err(error) => {
                    let name = file.path.display().to_string();
                    say(&name, format!("huge page file {name}: not used: {error:#}"));
                }
            }
        }
        let place = node.map_or_else(String::new, |node| format!(" on NUMA node {node}"));
        say(
            "no free file",
            format!(
                "huge page files {}: no free file of {size} bytes{place}: {} files there, {} of that size, \
                 {held} of them in use; make more with: damocles-worker store hugepage-file-init",
                self.pattern,
                self.files.iter().filter(on_node).count(),
                fitting.len(),
            ),
        );
        None
    }
}

/// The lock of a pool file; none if it is in use.
fn lock(file: &PoolFile) -> Result<Option<Lock>> {
    match open(&file.path)? {
        Some((opened, found)) if found == file.size => Ok(try_exclusive(opened)?),
        _ => bail!("is no longer a file of {} bytes", file.size),
    }
}

/// Names and paths in a directory; a missing directory has none.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let context = || format!("list huge page files in {}", dir.display());
    let found = match fs::read_dir(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(context),
    };
    found
        .map(|entry| {
            let path = entry.with_context(context)?.path();
            let name = path
                .file_name()
                .and_then(OsStr::to_str)
                .unwrap_or_default()
                .to_owned();
            Ok((name, path))
        })
        .collect()
}

/// Opens a regular file for reading and writing, with its size; none for anything else.
fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let file = File::options().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    Ok(Some((file, size)))
}

/// Makes `count` pool files of `size` bytes in `dir`, which is created, with their memory on `node` if
/// given. Returns their paths.
///
/// On failure the files made so far are removed; a file that was there before is never touched.
pub fn create_files(dir: &Path, size: u64, count: u32, node: Option<u32>) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("create directory {}", dir.display()))?;
    let mut made = Vec::new();
    let mut make = || {
        (0..count).try_for_each(|index| {
            let path = dir.join(format!("{}_{index}", file_prefix(size)));
            let file = File::options()
                .write(true)
                .create_new(true)
                .open(&path)
                .with_context(|| format!("create huge page file {}", path.display()))?;
            made.push(path.clone());
            let length =
                libc::off_t::try_from(size).context("file size beyond what the system can hold")?;
            // SAFETY: fallocate takes an open descriptor and touches no memory.
            let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) };
            ensure!(
                result == 0,
                "allocate {size} bytes for huge page file {}: {}",
                path.display(),
                io::Error::last_os_error()
            );
            Ok(())
        })
    };
    let result = match node {
        Some(node) => with_memory_on(node, make),
        None => make(),
    };
    match result {
        Ok(()) => Ok(made),
        Err(error) => {
            for path in made {
                let _ = fs::remove_file(path);
            }
            Err(error)
        }
    }
}

/// The part of a pool file's name that tells its size: `32.0_GiB`, `2.0_kiB`, `512_B`.
pub fn file_prefix(size: u64) -> String {
    const UNITS: [&str; 6] = ["kiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if size < 1024 {
        return format!("{size}_B");
    }
    let power = size.ilog2() / 10;
    let value = size as f64 / (1_u64 << (10 * power)) as f64;
    format!("{value:.1}_{}", UNITS[power as usize - 1])
}
