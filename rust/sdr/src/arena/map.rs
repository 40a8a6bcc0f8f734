//! Memory mappings and their NUMA placement: the system calls under the arena.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{ensure, Context, Result};

use super::MIB2_PAGE;
use crate::Report;

const PLAIN_PAGE: usize = 4096;
/// Addresses asked about per move_pages call.
const QUERY: usize = 4096;

/// Mapped memory, unmapped when dropped.
pub struct Mapping {
    /// What is mapped; the usable part lies inside.
    start: *mut u8,
    mapped: usize,
    address: *mut u8,
    size: usize,
    page: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; access goes through raw pointers.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods that take &self change no shared state of this object.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Ordinary memory, aligned so that it can be in huge pages.
    pub fn anonymous(size: usize) -> Result<Self> {
        let align = if size as u64 >= MIB2_PAGE {
            MIB2_PAGE as usize
        } else {
            PLAIN_PAGE
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mut mapping = Self::map(size + align, flags, -1, PLAIN_PAGE)?;
        mapping.address = mapping
            .start
            .wrapping_add(mapping.start.align_offset(align));
        mapping.size = size;
        Ok(mapping)
    }

    /// Reserved huge pages of `page` bytes; `size` is a multiple of it.
    pub fn reserved(size: usize, page: u64) -> Result<Self> {
        let exponent = page.trailing_zeros() as libc::c_int;
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_HUGETLB
            | (exponent << libc::MAP_HUGE_SHIFT);
        Self::map(size, flags, -1, page as usize)
    }

    /// A file's first `size` bytes, shared with it.
    pub fn of_file(file: &File, size: usize) -> Result<Self> {
        let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: `found` is a statfs to be written, and read only after success. On hugetlbfs its
        // block size is the page size.
        let page = unsafe {
            ensure!(
                libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) == 0,
                io::Error::last_os_error()
            );
            let found = found.assume_init();
            if found.f_type == libc::HUGETLBFS_MAGIC {
                found.f_bsize as usize
            } else {
                PLAIN_PAGE
            }
        };
        Self::map(size, libc::MAP_SHARED, file.as_raw_fd(), page)
    }

    fn map(size: usize, flags: libc::c_int, file: libc::c_int, page: usize) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, file, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context(format!("map {size} bytes"));
        }
        let start = start.cast();
        Ok(Mapping {
            start,
            mapped: size,
            address: start,
            size,
            page,
        })
    }

    pub fn address(&self) -> *mut u8 {
        self.address
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Asks for pages from `node` first; when it has no more, from others (with a strict binding a
    /// missing page would kill the process).
    pub fn prefer_node(&self, node: u32) -> io::Result<()> {
        const MPOL_PREFERRED: libc::c_int = 1;
        let nodes = node_mask(node);
        // SAFETY: the range is ours, and the mask holds as many bits as stated.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.address,
                self.size,
                MPOL_PREFERRED,
                nodes.as_ptr(),
                nodes.len() * 64 + 1,
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Asks for transparent huge pages; fails where the kernel gives none.
    pub fn ask_for_huge_pages(&self, system: &Path) -> Result<()> {
        let setting = system.join("kernel/mm/transparent_hugepage/enabled");
        let found = fs::read_to_string(&setting).unwrap_or_default();
        ensure!(
            !found.is_empty() && !found.contains("[never]"),
            "transparent huge pages are off; turn them on with: echo madvise > {}",
            setting.display()
        );
        // SAFETY: advice about a range that is ours.
        let result = unsafe { libc::madvise(self.address.cast(), self.size, libc::MADV_HUGEPAGE) };
        ensure!(result == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Makes every page present, so that a shortage is an error here and not a signal later. `report`
    /// receives bytes, every GiB; an error it returns ends this with that error.
    pub fn populate(&self, report: &mut Report<'_>) -> Result<()> {
        const STEP: usize = 1 << 30;
        for start in (0..self.size).step_by(STEP) {
            let length = STEP.min(self.size - start);
            self.populate_part(start, length)?;
            report((start + length) as u64, self.size as u64)?;
        }
        Ok(())
    }

    fn populate_part(&self, start: usize, length: usize) -> Result<()> {
        let address = self.address.wrapping_add(start);
        // SAFETY: populating a range that is ours changes no contents, even while it is written.
        let result = unsafe { libc::madvise(address.cast(), length, libc::MADV_POPULATE_WRITE) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        ensure!(error.raw_os_error() == Some(libc::EINVAL), error);
        // A kernel before 5.14: touch each page, without changing what a lane may have put there.
        for offset in (0..length).step_by(self.page) {
            // SAFETY: inside the mapping; adding nothing atomically is safe beside any other access.
            unsafe {
                AtomicU8::from_ptr(address.add(offset)).fetch_add(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Locks the pages into memory.
    pub fn keep_in_memory(&self) -> io::Result<()> {
        // SAFETY: the range is ours.
        match unsafe { libc::mlock(self.address.cast(), self.size) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Pages per NUMA node: all, or one per `stride` bytes if that is more. Pages that aren't there are
    /// not counted.
    pub fn placement(&self, stride: usize) -> Result<BTreeMap<u32, usize>> {
        let mut counts = BTreeMap::new();
        let offsets: Vec<usize> = (0..self.size).step_by(stride.max(self.page)).collect();
        for chunk in offsets.chunks(QUERY) {
            let addresses: Vec<_> = chunk
                .iter()
                .map(|offset| self.address.wrapping_add(*offset))
                .collect();
            let mut nodes = vec![-1 as libc::c_int; addresses.len()];
            // SAFETY: both arrays have as many elements as stated; without target nodes the call only
            // writes where each page is.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_move_pages,
                    0,
                    addresses.len(),
                    addresses.as_ptr(),
                    ptr::null::<libc::c_int>(),
                    nodes.as_mut_ptr(),
                    0,
                )
            };
            ensure!(result == 0, io::Error::last_os_error());
            for node in nodes
                .into_iter()
                .filter_map(|node| u32::try_from(node).ok())
            {
                *counts.entry(node).or_default() += 1;
            }
        }
        Ok(counts)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped once.
        unsafe { libc::munmap(self.start.cast(), self.mapped) };
    }
}

/// Has the file system set the memory or space of a file's first `size` bytes aside, where it can: a
/// shortage is an error then, and no signal when the file is written to through a mapping.
pub fn reserve(file: &File, size: u64) -> Result<()> {
    let length =
        libc::off_t::try_from(size).context("file size beyond what the system can hold")?;
    // SAFETY: fallocate takes an open descriptor; it changes no contents and no size within the file.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    ensure!(
        error.raw_os_error() == Some(libc::EOPNOTSUPP),
        "its {size} bytes are not all there, and can't be had: {error}"
    );
    Ok(())
}

/// Runs `work` with the calling thread's memory strictly bound to `node`.
pub fn with_memory_on<T>(node: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    const MPOL_DEFAULT: libc::c_int = 0;
    const MPOL_BIND: libc::c_int = 2;
    let nodes = node_mask(node);
    // SAFETY: the mask holds as many bits as stated.
    let bound = unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy,
            MPOL_BIND,
            nodes.as_ptr(),
            nodes.len() * 64 + 1,
        )
    };
    ensure!(
        bound == 0,
        "invalid NUMA node {node}: {}; see the nodes with: ls -d /sys/devices/system/node/node*",
        io::Error::last_os_error()
    );
    let result = work();
    // SAFETY: the default policy takes no mask.
    unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, ptr::null::<u64>(), 0) };
    result
}

/// A node mask of the kernel: one bit per node.
fn node_mask(node: u32) -> Vec<u64> {
    let mut mask = vec![0; node as usize / 64 + 1];
    mask[node as usize / 64] = 1 << (node % 64);
    mask
}
