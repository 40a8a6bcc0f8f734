//! Reserved huge pages: what each NUMA node has, and what to type to get more.

use std::fs;
use std::path::{Path, PathBuf};

use crate::topology::numa_nodes;

pub const GIB_PAGE: u64 = 1 << 30;
pub const MIB2_PAGE: u64 = 2 << 20;

/// Reserved huge pages of one size, on one node or (`node` none) on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    pub node: Option<u32>,
    /// Bytes of a page.
    pub page: u64,
    pub total: u64,
    pub free: u64,
    dir: PathBuf,
}

impl HugePages {
    /// Reads the counts below `system` (`/sys`); none if the kernel has no pages of that size.
    pub fn read(system: &Path, page: u64, node: Option<u32>) -> Option<Self> {
        let parent = match node {
            Some(node) => format!("devices/system/node/node{node}/hugepages"),
            None => "kernel/mm/hugepages".to_owned(),
        };
        let dir = system
            .join(parent)
            .join(format!("hugepages-{}kB", page >> 10));
        let count = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok();
        Some(HugePages {
            node,
            page,
            total: count("nr_hugepages")?,
            free: count("free_hugepages")?,
            dir,
        })
    }

    /// The command that reserves so many more pages that `needed` are free.
    pub fn command_for(&self, needed: u64) -> String {
        let total = self.total + needed.saturating_sub(self.free);
        format!("echo {total} > {}", self.dir.join("nr_hugepages").display())
    }

    /// For messages: page size and node.
    pub fn describe(&self) -> String {
        let size = if self.page == GIB_PAGE {
            "1 GiB"
        } else {
            "2 MiB"
        };
        match self.node {
            Some(node) => format!("huge pages of {size} on NUMA node {node}"),
            None => format!("huge pages of {size}"),
        }
    }

    /// What to say when fewer than `needed` are free.
    pub fn too_few(&self, needed: u64) -> String {
        format!(
            "{}: {needed} needed for the two label buffers of a sector, {} of {} free; to have enough: {}",
            self.describe(),
            self.free,
            self.total,
            self.command_for(needed)
        )
    }
}

/// Reserved huge pages of every size and node of the machine, nodes in order. `system` is `/sys`.
pub fn report(system: &Path) -> Vec<HugePages> {
    numa_nodes(system)
        .into_iter()
        .flat_map(|node| {
            [GIB_PAGE, MIB2_PAGE].map(|page| HugePages::read(system, page, Some(node)))
        })
        .flatten()
        .collect()
}
