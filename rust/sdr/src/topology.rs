//! Physical cores and NUMA nodes, from sysfs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};

use crate::lock::{try_exclusive, Lock};

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// The CPU (hardware thread) that a hashing thread is pinned to: the core's first allowed one.
    /// Its siblings share the ports of the SHA instructions, so they get no hashing thread.
    pub cpu: u32,
    /// Its NUMA node; none where the kernel knows none.
    pub node: Option<u32>,
    /// The first CPU of those that share its last-level (L3) cache; none where the kernel tells none.
    pub cache: Option<u32>,
}

/// One core per set of sibling CPUs among `allowed`, in the order of their CPUs. `system` is `/sys`.
pub fn cores(system: &Path, allowed: &[u32]) -> Result<Vec<Core>> {
    let mut first_of = BTreeMap::new();
    let mut sorted = allowed.to_vec();
    sorted.sort_unstable();
    for cpu in sorted {
        let list = siblings_file(system, cpu);
        // Containers may hide the topology: then each CPU counts as a core.
        let siblings = match fs::read_to_string(&list) {
            Ok(text) => parse_list(&text).with_context(|| format!("read {}", list.display()))?,
            Err(_) => vec![cpu],
        };
        first_of.entry(siblings).or_insert(cpu);
    }
    let node_of = node_of_cpu(system)?;
    let mut cores: Vec<_> = first_of
        .into_values()
        .map(|cpu| Core {
            cpu,
            node: node_of.get(&cpu).copied(),
            cache: cache_of_cpu(system, cpu),
        })
        .collect();
    cores.sort_unstable_by_key(|core| core.cpu);
    ensure!(!cores.is_empty(), "no CPU is allowed to this process");
    Ok(cores)
}

/// The first CPU of those that share the L3 cache of `cpu`.
fn cache_of_cpu(system: &Path, cpu: u32) -> Option<u32> {
    let caches = system.join(format!("devices/system/cpu/cpu{cpu}/cache"));
    fs::read_dir(caches).ok()?.find_map(|entry| {
        let dir = entry.ok()?.path();
        let read = |name| fs::read_to_string(dir.join(name)).ok();
        if read("level")?.trim() != "3" {
            return None;
        }
        parse_list(&read("shared_cpu_list")?).ok()?.first().copied()
    })
}

/// The lock of a core, by which processes tell each other what they hash on: that of the kernel's own
/// file on the core, which everyone can open and nobody has to make or remove. None if another process
/// (or another holder in this one) has it.
pub fn lock_core(system: &Path, core: &Core) -> io::Result<Option<Lock>> {
    let path = siblings_file(system, core.cpu);
    try_exclusive(File::open(path)?)
}

fn siblings_file(system: &Path, cpu: u32) -> PathBuf {
    system.join(format!(
        "devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    ))
}

/// Those of `cores` that are on the NUMA nodes from which this process takes its memory by preference
/// (`numa_preferred` of a processor), unless somebody chose its CPUs as well: label memory on another
/// node than its core is slow.
pub fn preferred_cores(system: &Path, cores: Vec<Core>, say: &mut dyn FnMut(String)) -> Vec<Core> {
    let nodes = preferred_nodes();
    let online = fs::read_to_string(system.join("devices/system/cpu/online"));
    let (Ok(Ok(online)), Ok(allowed)) = (online.map(|list| parse_list(&list)), allowed_cpus())
    else {
        return cores;
    };
    if nodes.is_empty() || allowed.len() < online.len() {
        return cores;
    }
    let on_nodes = on_nodes(&cores, &nodes);
    if on_nodes.is_empty() {
        say(format!(
            "memory is taken from NUMA nodes {nodes:?}, which have no cores: PC1 hashes on all cores"
        ));
        return cores;
    }
    on_nodes
}

fn on_nodes(cores: &[Core], nodes: &[u32]) -> Vec<Core> {
    let preferred = |core: &&Core| core.node.is_some_and(|node| nodes.contains(&node));
    cores.iter().filter(preferred).cloned().collect()
}

/// The NUMA nodes of the calling thread's memory policy; empty if it has none.
fn preferred_nodes() -> Vec<u32> {
    // As many nodes as any kernel is built for.
    let mut mask = [0_u64; 16];
    let mut policy: libc::c_int = 0;
    // SAFETY: the mask holds as many bits as stated, and both are written by the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &mut policy,
            mask.as_mut_ptr(),
            8 * size_of_val(&mask),
            0,
            0,
        )
    };
    const PREFERRED: libc::c_int = 1;
    const BIND: libc::c_int = 2;
    const PREFERRED_MANY: libc::c_int = 5;
    // Above the mode are flags.
    if result != 0 || ![PREFERRED, BIND, PREFERRED_MANY].contains(&(policy & 0xff)) {
        return Vec::new();
    }
    (0..64 * mask.len() as u32)
        .filter(|node| mask[*node as usize / 64] >> (node % 64) & 1 == 1)
        .collect()
}

/// The NUMA nodes, in order.
pub fn numa_nodes(system: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(system.join("devices/system/node")) else {
        return Vec::new();
    };
    let mut nodes: Vec<_> = entries
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_prefix("node")?
                .parse()
                .ok()
        })
        .collect();
    nodes.sort_unstable();
    nodes
}

fn node_of_cpu(system: &Path) -> Result<BTreeMap<u32, u32>> {
    let mut node_of = BTreeMap::new();
    for node in numa_nodes(system) {
        let list = system.join(format!("devices/system/node/node{node}/cpulist"));
        let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
        for cpu in parse_list(&text).with_context(|| format!("read {}", list.display()))? {
            node_of.insert(cpu, node);
        }
    }
    Ok(node_of)
}

/// The numbers of a kernel list such as `0-3,8,10-11`.
pub fn parse_list(text: &str) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first
            .parse::<u32>()
            .and_then(|first| Ok(first..=last.parse()?));
        numbers.extend(
            range.with_context(|| format!("CPU list {text:?}: {part:?} is no number or range"))?,
        );
    }
    Ok(numbers)
}

/// The CPUs that the calling thread may run on.
pub fn allowed_cpus() -> Result<Vec<u32>> {
    let mut set = empty_set();
    // SAFETY: the set is as large as stated, and written by the call.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    ensure!(
        result == 0,
        "read CPU affinity: {}",
        io::Error::last_os_error()
    );
    let count = libc::CPU_SETSIZE as u32;
    // SAFETY: every number is below the size of the set.
    Ok((0..count)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu as usize, &set) })
        .collect())
}

/// Pins the calling thread to one CPU.
pub fn pin_to(cpu: u32) -> io::Result<()> {
    let mut set = empty_set();
    if cpu >= libc::CPU_SETSIZE as u32 {
        return Err(io::Error::other(format!(
            "CPU {cpu} is beyond the size of a CPU set"
        )));
    }
    // SAFETY: the number is below the size of the set; the call reads the set.
    let result = unsafe {
        libc::CPU_SET(cpu as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a CPU set is an array of bits; all zero is the empty set.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_one_node_means_its_cores() {
        let core = |cpu, node| Core {
            cpu,
            node,
            cache: None,
        };
        let cores = [core(0, Some(0)), core(1, Some(1)), core(2, None)];
        assert_eq!(on_nodes(&cores, &[1]), [core(1, Some(1))]);
        assert!(on_nodes(&cores, &[7]).is_empty());
    }

    #[test]
    fn the_nodes_of_a_memory_policy_are_read() {
        const PREFERRED: libc::c_int = 1;
        let mask = [1_u64];
        std::thread::spawn(move || {
            assert!(preferred_nodes().is_empty());
            // SAFETY: the mask holds as many bits as stated; the policy is this thread's, which ends.
            let result =
                unsafe { libc::syscall(libc::SYS_set_mempolicy, PREFERRED, mask.as_ptr(), 65) };
            // Containers may forbid it.
            if result == 0 {
                assert_eq!(preferred_nodes(), [0]);
            }
        })
        .join()
        .unwrap();
    }
}
