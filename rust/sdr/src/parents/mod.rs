//! The parents cache: a file of 14 little-endian u32 per node, with the name, place and bytes of the
//! proofs crate's, mapped read-only and shared by every sector with the same graph.

mod generate;
mod published;
mod record;

use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure, Context, Result};
use memmap2::{Mmap, MmapMut};
use sha2::{Digest, Sha256};

use crate::graph::{feistel_keys, Graph, GraphSpec, Parents, BASE_DEGREE, DEGREE, EXP_DEGREE};
use crate::lock::{self, Lock};
use crate::Report;
use record::Record;

/// Bytes of a node's parents.
pub const ROW_SIZE: usize = DEGREE * size_of::<u32>();

/// Bytes read at a time when a file's digest is computed.
const READ_SIZE: usize = 4 << 20;

/// Rows compared with the graph when a file is mapped whose digest was computed earlier.
const SAMPLES: u32 = 256;

/// A row that can't be: the file has changed, or was read wrongly, since its digest was computed.
#[derive(Debug)]
pub struct Damaged {
    path: PathBuf,
    node: u32,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "parents cache {}: the parents of node {} are not those of the graph, though the file was good when it \
             was read as a whole; it is read again, and made again if it is damaged, before it is next used. \
             Look at dmesg for its disk and for the memory",
            self.path.display(),
            self.node
        )
    }
}

impl Error for Damaged {}

/// A parents cache file, checked and mapped.
pub struct ParentsCache {
    map: Mmap,
    spec: GraphSpec,
    path: PathBuf,
    /// Shared lock, as the proofs crate takes: nobody who respects it rewrites a mapped file.
    _lock: Option<Lock>,
}

impl ParentsCache {
    /// The parents of a small graph, computed on the calling thread and kept in memory only.
    pub fn in_memory(spec: GraphSpec) -> Result<Self> {
        Self::in_memory_from(spec, 0, &mut |_, _| ())
    }

    /// The same of the nodes from `first` on, each row changed by `change`. Those before have the parents
    /// 0, and take no memory.
    pub(crate) fn in_memory_from(
        spec: GraphSpec,
        first: u32,
        change: &mut dyn FnMut(u32, &mut Parents),
    ) -> Result<Self> {
        let graph = Graph::new(spec);
        let mut map = MmapMut::map_anon(file_size(&spec).try_into()?)?;
        let rows = map.chunks_exact_mut(ROW_SIZE).skip(first as usize);
        for (row, node) in rows.zip(first..) {
            let mut parents = graph.parents(node);
            change(node, &mut parents);
            for (bytes, parent) in row.chunks_exact_mut(4).zip(parents) {
                bytes.copy_from_slice(&parent.to_le_bytes());
            }
        }
        Ok(ParentsCache {
            map: map.make_read_only()?,
            spec,
            path: PathBuf::from("(in memory)"),
            _lock: None,
        })
    }

    /// Opens the file of `spec` in `dir`, and makes it if it is missing or not what it should be.
    ///
    /// A file is taken only when its digest is the published one, or the one recorded when this
    /// engine made it; the digest is computed once per file and then remembered with the file's size,
    /// inode and time of change. `threads` compute a missing file; another process that is making
    /// the same file is waited for. `report` receives `(nodes done, nodes)`; an error it returns ends
    /// the work with that error. `say` receives one sentence per thing worth telling.
    pub fn obtain(
        dir: &Path,
        spec: GraphSpec,
        threads: usize,
        report: &mut Report<'_>,
        say: &mut dyn FnMut(String),
    ) -> Result<Self> {
        let path = dir.join(file_name(&spec));
        fs::create_dir_all(dir)
            .with_context(|| format!("create parents cache directory {}", dir.display()))?;
        match check(&path, &spec, report)? {
            Check::Good => {
                let cache = Self::map(path.clone(), spec)?;
                match cache.wrong_row() {
                    None => return Ok(cache),
                    Some(node) => say(cache.damaged(node).to_string()),
                }
            }
            Check::Missing => (),
            Check::Bad(why) => say(format!(
                "parents cache {}: {why}; making it again",
                path.display()
            )),
        }
        let nodes = u64::from(spec.nodes);
        let mut told = false;
        let _making = lock::wait_exclusive(&with_suffix(&path, ".lock"), &mut || {
            if !told {
                say(format!(
                    "parents cache {}: another process is making it; waiting for it",
                    path.display()
                ));
                told = true;
            }
            report(0, nodes)
        })?;
        // Whoever held the lock may have made the file.
        if !matches!(check(&path, &spec, report)?, Check::Good) {
            generate::generate(&path, spec, threads, report)?;
        }
        Self::map(path, spec)
    }

    fn map(path: PathBuf, spec: GraphSpec) -> Result<Self> {
        let file =
            File::open(&path).with_context(|| format!("open parents cache {}", path.display()))?;
        let lock =
            lock::shared(file).with_context(|| format!("lock parents cache {}", path.display()))?;
        // SAFETY: a mapped file must not shrink or change while it is mapped. It got its name when it
        // was complete, nothing of ours writes to it afterwards, and the shared lock keeps out the
        // proofs crate, which locks before it writes.
        let map = unsafe { Mmap::map(lock.file()) }
            .with_context(|| format!("map parents cache {}", path.display()))?;
        ensure!(
            map.len() as u64 == file_size(&spec),
            "parents cache {}: {} bytes found, {} expected; it changed while it was opened, try again",
            path.display(),
            map.len(),
            file_size(&spec)
        );
        Ok(ParentsCache {
            map,
            spec,
            path,
            _lock: Some(lock),
        })
    }

    pub fn spec(&self) -> &GraphSpec {
        &self.spec
    }

    /// The error of a wrong row; the file is not trusted any more.
    pub(crate) fn damaged(&self, node: u32) -> Damaged {
        Record::distrust(&self.path);
        Damaged {
            path: self.path.clone(),
            node,
        }
    }

    /// A node among some all over the file whose row is not what the graph says.
    fn wrong_row(&self) -> Option<u32> {
        let graph = Graph::new(self.spec);
        let apart = (self.spec.nodes / SAMPLES).max(1);
        // Others every time.
        let first = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos() % apart);
        (first..self.spec.nodes)
            .step_by(apart as usize)
            .find(|node| self.rows()[*node as usize] != graph.parents(*node))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All rows: 14 parents per node, nodes in order.
    pub fn rows(&self) -> &[[u32; DEGREE]] {
        // SAFETY: the map is page-aligned, lives as long as self and holds exactly `nodes` rows of 14
        // u32, for which every bit pattern is valid; the machine is little-endian (checked at
        // compile time in this crate's root).
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.spec.nodes as usize) }
    }

    /// Asks the kernel to read the rows of `nodes` nodes from `first` on, without waiting.
    pub fn will_need(&self, first: u32, nodes: u32) {
        const PAGE: usize = 4096;
        let start = first as usize * ROW_SIZE / PAGE * PAGE;
        let end = ((first as usize + nodes as usize) * ROW_SIZE).min(self.map.len());
        if start < end {
            // SAFETY: the range lies inside the map, and advice changes no contents.
            unsafe {
                let address = self.map.as_ptr().add(start).cast_mut();
                libc::madvise(address.cast(), end - start, libc::MADV_WILLNEED);
            }
        }
    }
}

/// The directory where the proofs crate keeps parents caches: `FIL_PROOFS_PARENT_CACHE`, else
/// `filecoin-parents` appended to `FIL_PROOFS_CACHE_DIR` as it is written, else under `/var/tmp/`.
pub fn default_dir() -> PathBuf {
    match env::var_os("FIL_PROOFS_PARENT_CACHE") {
        Some(dir) => dir.into(),
        None => {
            let mut dir = env::var_os("FIL_PROOFS_CACHE_DIR").unwrap_or_else(|| "/var/tmp/".into());
            dir.push("filecoin-parents");
            dir.into()
        }
    }
}

/// The name that the proofs crate gives to the file of `spec`.
pub fn file_name(spec: &GraphSpec) -> String {
    const HASHER: &str = "poseidon_hasher";
    let mut hash = Sha256::new().chain_update(HASHER).chain_update(format!(
        "stacked_graph::StackedGraph{{expansion_degree: {EXP_DEGREE} base_graph: \
             drgraph::BucketGraph{{size: {}; degree: {BASE_DEGREE}; hasher: {HASHER}}} }}",
        spec.nodes
    ));
    for key in feistel_keys(&spec.porep_id) {
        hash.update(key.to_le_bytes());
    }
    hash.update(spec.nodes.to_le_bytes());
    format!("v28-sdr-parent-{}.cache", hex::encode(hash.finalize()))
}

/// Bytes of the file of `spec`.
pub fn file_size(spec: &GraphSpec) -> u64 {
    u64::from(spec.nodes) * ROW_SIZE as u64
}

/// Has the digest of the file of `spec` in `dir`, if it is there, computed again before it is next used.
pub fn distrust(dir: &Path, spec: &GraphSpec) {
    Record::distrust(&dir.join(file_name(spec)));
}

/// What a parents cache file was found to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    Good,
    Missing,
    /// With the reason.
    Bad(String),
}

/// Looks at the file of `spec` in `dir` and changes nothing there but the record of a digest. Without
/// `read` the digest counts only where it was computed before; none then means that it wasn't.
pub fn look(
    dir: &Path,
    spec: &GraphSpec,
    read: Option<&mut Report<'_>>,
) -> Result<(PathBuf, Option<Check>)> {
    let path = dir.join(file_name(spec));
    let found = match (glance(&path, spec)?, read) {
        (Glance::Known(check), _) => Some(check),
        (Glance::Compare(..), None) => None,
        (Glance::Compare(..), Some(report)) => Some(check(&path, spec, report)?),
    };
    Ok((path, found))
}

/// What a file's size and the record of its digest tell.
enum Glance {
    Known(Check),
    /// The digest must be computed, and be this one.
    Compare(File, String),
}

/// Looks at the file at `path`: its size, then its digest unless that was done before.
fn check(path: &Path, spec: &GraphSpec, report: &mut Report<'_>) -> Result<Check> {
    let (file, expected) = match glance(path, spec)? {
        Glance::Known(check) => return Ok(check),
        Glance::Compare(file, expected) => (file, expected),
    };
    let digest = digest(&file, spec, report)
        .with_context(|| format!("read parents cache {}", path.display()))?;
    if digest != expected {
        return Ok(Check::Bad(format!(
            "its SHA-256 is {digest}, expected {expected}"
        )));
    }
    // Without the record the next start computes the digest again: no reason to fail.
    let _ = Record::new(digest, &file).and_then(|record| record.write(path));
    Ok(Check::Good)
}

fn glance(path: &Path, spec: &GraphSpec) -> Result<Glance> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Glance::Known(Check::Missing))
        }
        Err(error) => bail!("open parents cache {}: {error}", path.display()),
    };
    let found = file.metadata()?.len();
    if found != file_size(spec) {
        return Ok(Glance::Known(Check::Bad(format!(
            "{found} bytes found, {} expected",
            file_size(spec)
        ))));
    }
    let record = Record::read(path);
    if record.as_ref().is_some_and(|record| record.fits(&file)) {
        return Ok(Glance::Known(Check::Good));
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let expected = match (published::digest_of(name), record) {
        (Some(published), _) => published.to_owned(),
        (None, Some(record)) => record.digest,
        (None, None) => {
            return Ok(Glance::Known(Check::Bad(
                "another program made it and no digest is known to check it".to_owned(),
            )))
        }
    };
    Ok(Glance::Compare(file, expected))
}

fn digest(mut file: &File, spec: &GraphSpec, report: &mut Report<'_>) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_SIZE];
    let mut done = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
        done += read;
        report((done / ROW_SIZE) as u64, u64::from(spec.nodes))?;
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
