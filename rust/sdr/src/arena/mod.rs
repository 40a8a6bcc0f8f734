//! Label memory: sector-sized buffers in huge pages on a chosen NUMA node, as far as the machine has
//! them, and in words why not where it hasn't.

mod hugetlb;
mod map;
mod pool;
mod supply;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};

pub use hugetlb::{report, HugePages, GIB_PAGE, MIB2_PAGE};
pub use pool::{create_files, file_prefix, Pool, PLACEHOLDER};
pub use supply::Shortage;
use supply::{Promise, Supply};

use crate::lock::Lock;
use crate::Report;
use map::{reserve, Mapping};

/// What holds a buffer's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file made beforehand, usually on hugetlbfs.
    PoolFile(PathBuf),
    /// Reserved huge pages of this many bytes each.
    HugePages(u64),
    /// Ordinary memory that the kernel was asked to put into huge pages.
    Transparent,
    /// Ordinary memory.
    Plain,
}

/// Receives a kind of thing worth telling, and a sentence about it; of one kind the first is told.
type Once<'a> = dyn FnMut(&str, String) + 'a;

/// Memory of exactly the size asked for.
pub struct Buffer {
    mapping: Mapping,
    backing: Backing,
    /// The NUMA node asked for.
    node: Option<u32>,
    /// The lock of a pool file: other processes leave it alone while this lives.
    _lock: Option<Lock>,
    /// What of it is not there yet.
    promise: Mutex<Option<Promise>>,
}

impl Buffer {
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.address()
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.mapping.size()
    }

    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Pages per NUMA node, as the kernel reports them (move_pages).
    pub fn placement(&self) -> Result<BTreeMap<u32, usize>> {
        self.mapping.placement(0)
    }

    /// Does [`Buffer::populate`] and [`Buffer::look_at_placement`].
    pub fn settle(&self, say: &mut dyn FnMut(String)) -> Result<()> {
        self.populate(&mut |_, _| Ok(()))?;
        self.look_at_placement(say);
        Ok(())
    }

    /// Makes every page present, which may be done while the buffer is used. `report` receives bytes; an
    /// error it returns ends this with that error.
    pub fn populate(&self, report: &mut Report<'_>) -> Result<()> {
        if matches!(self.backing, Backing::Transparent | Backing::Plain) {
            self.mapping
                .populate(report)
                .with_context(|| format!("allocate {} bytes of label memory", self.size()))?;
            *self
                .promise
                .lock()
                .expect("never poisoned: no panic while locked") = None;
        }
        Ok(())
    }

    /// Tells `say` if pages are on other nodes than the one asked for.
    pub fn look_at_placement(&self, say: &mut dyn FnMut(String)) {
        // A look at one page in 2 MiB tells enough, and asking about all of 32 GiB takes seconds.
        if let (Some(node), Ok(found)) = (self.node, self.mapping.placement(MIB2_PAGE as usize)) {
            if let Some(text) = misplaced(&found, node, &self.backing) {
                say(text);
            }
        }
    }
}

/// Gives out label memory.
pub struct Arena {
    pool: Pool,
    system: PathBuf,
    supply: Supply,
    /// Whether nobody's wish for a node counts.
    ignores_nodes: bool,
    /// What was said, and about which node.
    said: Mutex<HashSet<(String, Option<u32>)>>,
}

impl Arena {
    /// An arena that takes files of `pool` first. `system` is where sysfs is mounted (`/sys`).
    pub fn new(pool: Pool, system: &Path) -> Self {
        Arena {
            pool,
            system: system.to_owned(),
            supply: Supply::new("/proc/meminfo".into()),
            ignores_nodes: false,
            said: Mutex::default(),
        }
    }

    /// The arena with the memory that another file than `/proc/meminfo` tells of.
    pub fn with_meminfo(mut self, meminfo: &Path) -> Self {
        self.supply = Supply::new(meminfo.to_owned());
        self
    }

    /// The arena with memory of any node whatever is asked for: files of every node are taken, and the
    /// kernel places the rest.
    pub fn ignoring_nodes(mut self) -> Self {
        self.ignores_nodes = true;
        self
    }

    /// Files in the pool, of any size.
    pub fn pool_files(&self) -> usize {
        self.pool.len()
    }

    /// Where sysfs is.
    pub fn system(&self) -> &Path {
        &self.system
    }

    /// A buffer of `size` bytes on NUMA node `node`: from the pool, else in reserved pages of 1 GiB,
    /// else of 2 MiB, else in transparent huge pages, else in plain ones. Its contents are undefined, and
    /// it should be settled ([`Buffer::settle`]) when there is time.
    ///
    /// `say` receives each kind of fallback once per node in the arena's life: what was asked for, what
    /// there was, what to type. Unless `at_any_price`, ordinary memory beyond what the machine has
    /// available is refused with a [`Shortage`].
    pub fn allocate(
        &self,
        size: usize,
        node: Option<u32>,
        at_any_price: bool,
        say: &mut dyn FnMut(String),
    ) -> Result<Buffer> {
        let node = node.filter(|_| !self.ignores_nodes);
        let mut once = |about: &str, text: String| {
            let mut said = self
                .said
                .lock()
                .expect("never poisoned: no panic while locked");
            if said.insert((about.to_owned(), node)) {
                say(text);
            }
        };
        if let Some(buffer) = self.take_pool_file(size, node, &mut once) {
            return Ok(buffer);
        }
        let mut found = Vec::new();
        for page in [GIB_PAGE, MIB2_PAGE] {
            if !(size as u64).is_multiple_of(page) {
                continue;
            }
            let pages = HugePages::read(&self.system, page, node);
            if let Some(buffer) = self.take_reserved(size, pages.as_ref(), node, &mut once) {
                return Ok(buffer);
            }
            found.extend(pages);
        }
        let promise = self.supply.promise(size as u64, at_any_price)?;
        let buffer = self.take_ordinary(size, node, promise, &mut once)?;
        if size as u64 >= MIB2_PAGE {
            let text = no_huge_pages(size as u64, &found, node, &buffer.backing);
            once("no huge pages", text);
        }
        Ok(buffer)
    }

    fn take_pool_file(&self, size: usize, node: Option<u32>, say: &mut Once<'_>) -> Option<Buffer> {
        let mut bound = Ok(());
        let mut map = |lock: &Lock| {
            let mapping = Mapping::of_file(lock.file(), size)?;
            if let Some(node) = node {
                bound = mapping.prefer_node(node);
            }
            // A file whose memory is not there yet: it must be before it is hashed into, or a write to
            // it may end this process.
            reserve(lock.file(), size as u64)?;
            mapping.populate(&mut |_, _| Ok(()))?;
            Ok(mapping)
        };
        let (path, lock, mapping) = self.pool.take(size as u64, node, &mut map, say)?;
        if let (Err(error), Some(node)) = (bound, node) {
            say("binding", cannot_bind(node, &error));
        }
        if let Err(error) = mapping.keep_in_memory() {
            say(
                "mlock",
                format!(
                    "huge page file {}: can't be locked into memory ({error}); raise the limit \
                     with: ulimit -l unlimited",
                    path.display()
                ),
            );
        }
        Some(Buffer {
            mapping,
            backing: Backing::PoolFile(path),
            node,
            _lock: Some(lock),
            promise: Mutex::default(),
        })
    }

    /// A buffer in reserved huge pages, if so many are free. `size` is a multiple of a page's.
    fn take_reserved(
        &self,
        size: usize,
        pages: Option<&HugePages>,
        node: Option<u32>,
        say: &mut Once<'_>,
    ) -> Option<Buffer> {
        let pages = pages?;
        if pages.free < size as u64 / pages.page {
            return None;
        }
        let mapping = Mapping::reserved(size, pages.page)
            .and_then(|mapping| {
                self.bind(&mapping, node, say);
                mapping.populate(&mut |_, _| Ok(()))?;
                Ok(mapping)
            })
            .map_err(|error| {
                let what = pages.describe();
                say(&what, format!("{what}: not used: {error:#}"));
            })
            .ok()?;
        Some(Buffer {
            mapping,
            backing: Backing::HugePages(pages.page),
            node,
            _lock: None,
            promise: Mutex::default(),
        })
    }

    fn take_ordinary(
        &self,
        size: usize,
        node: Option<u32>,
        promise: Promise,
        say: &mut Once<'_>,
    ) -> Result<Buffer> {
        let mapping = Mapping::anonymous(size)
            .with_context(|| format!("allocate {size} bytes of label memory"))?;
        self.bind(&mapping, node, say);
        let mut backing = Backing::Plain;
        if size as u64 >= MIB2_PAGE {
            match mapping.ask_for_huge_pages(&self.system) {
                Ok(()) => backing = Backing::Transparent,
                Err(error) => say(
                    "plain pages",
                    format!("label memory is in plain pages, which makes PC1 slower: {error:#}"),
                ),
            }
        }
        Ok(Buffer {
            mapping,
            backing,
            node,
            _lock: None,
            promise: Mutex::new(Some(promise)),
        })
    }

    fn bind(&self, mapping: &Mapping, node: Option<u32>, say: &mut Once<'_>) {
        if let Some(node) = node {
            if let Err(error) = mapping.prefer_node(node) {
                say("binding", cannot_bind(node, &error));
            }
        }
    }
}

fn cannot_bind(node: u32, error: &io::Error) -> String {
    format!("label memory can't be bound to NUMA node {node} ({error}); the kernel places it")
}

/// What to say about label memory of `size` bytes that is not in reserved huge pages, for which `found` was
/// looked at.
fn no_huge_pages(size: u64, found: &[HugePages], node: Option<u32>, backing: &Backing) -> String {
    let place = node.map_or_else(String::new, |node| format!(" on NUMA node {node}"));
    let instead = match backing {
        Backing::Transparent => "transparent huge pages, of which the kernel may have too few",
        Backing::Plain | Backing::HugePages(_) | Backing::PoolFile(_) => "plain pages",
    };
    if found.is_empty() {
        return format!(
            "label memory{place}: the kernel has no huge pages of 1 GiB or 2 MiB to reserve; it is in {instead}"
        );
    }
    let had: Vec<_> = found
        .iter()
        .map(|pages| pages.too_few(2 * size / pages.page))
        .collect();
    format!(
        "label memory{place} is in {instead}, which can make PC1 slower: two buffers of {size} bytes are \
         wanted per sector. {}",
        had.join(", or ")
    )
}

/// What to say about pages on other nodes than the one asked for.
fn misplaced(found: &BTreeMap<u32, usize>, node: u32, backing: &Backing) -> Option<String> {
    let all: usize = found.values().sum();
    let elsewhere = all - found.get(&node).copied().unwrap_or(0);
    if elsewhere == 0 {
        return None;
    }
    let what = match backing {
        Backing::PoolFile(path) => format!("huge page file {}", path.display()),
        Backing::HugePages(_) | Backing::Transparent | Backing::Plain => "label memory".to_owned(),
    };
    Some(format!(
        "{what}: {elsewhere} of {all} pages are not on NUMA node {node} as asked, which makes PC1 \
         slower; free memory there, or make the huge page files again with --node {node}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misplaced_pages_are_counted_in_words() {
        let found = BTreeMap::from([(0, 96), (1, 32)]);
        let text = misplaced(&found, 0, &Backing::Plain).unwrap();
        assert!(
            text.contains("32 of 128 pages are not on NUMA node 0"),
            "{text}"
        );
        let file = Backing::PoolFile("/mnt/numa_1/32.0_GiB_0".into());
        let text = misplaced(&found, 1, &file).unwrap();
        assert!(text.contains("/mnt/numa_1/32.0_GiB_0: 96 of 128"), "{text}");
        assert!(misplaced(&BTreeMap::from([(1, 8)]), 1, &file).is_none());
    }
}
