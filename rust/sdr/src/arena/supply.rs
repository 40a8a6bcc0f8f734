//! How much ordinary memory is left to be given out.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// There is too little memory for a buffer now; there may be when another one has been dropped.
#[derive(Debug)]
pub struct Shortage {
    needed: u64,
    available: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes of memory are needed for a label buffer, {} are available",
            self.needed, self.available
        )
    }
}

impl std::error::Error for Shortage {}

/// What the kernel says is available, less what was given out and is not there yet: memory is taken
/// from the kernel only when it is first written to.
pub struct Supply {
    /// `/proc/meminfo`.
    meminfo: PathBuf,
    promised: Arc<AtomicU64>,
}

impl Supply {
    pub fn new(meminfo: PathBuf) -> Self {
        Supply {
            meminfo,
            promised: Arc::default(),
        }
    }

    /// Counts `bytes` as given out, until what is returned is dropped. Unless `at_any_price`, fails with a
    /// [`Shortage`] if they are not to be had. What can't be known is taken for plenty.
    pub fn promise(&self, bytes: u64, at_any_price: bool) -> Result<Promise, Shortage> {
        // Counted before it is compared: of two that ask at the same time, one sees the other.
        let others = self.promised.fetch_add(bytes, Ordering::Relaxed);
        let promise = Promise {
            bytes,
            promised: self.promised.clone(),
        };
        match self.available() {
            Some(available) if !at_any_price && bytes > available.saturating_sub(others) => {
                Err(Shortage {
                    needed: bytes,
                    available: available.saturating_sub(others),
                })
            }
            _ => Ok(promise),
        }
    }

    fn available(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.meminfo).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        kibibytes.checked_mul(1024)
    }
}

/// Memory that was given out and is not there yet.
pub struct Promise {
    bytes: u64,
    promised: Arc<AtomicU64>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_count_until_they_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meminfo");
        fs::write(&path, "MemTotal: 900 kB\nMemAvailable:    100 kB\n").unwrap();
        let supply = Supply::new(path);
        supply.promise(100 << 10, false).unwrap();
        let promise = supply.promise(60 << 10, false).unwrap();
        supply.promise(40 << 10, false).unwrap();
        let shortage = supply.promise((40 << 10) + 1, false).err().unwrap();
        assert_eq!(
            shortage.to_string(),
            "40961 bytes of memory are needed for a label buffer, 40960 are available"
        );
        supply.promise(1 << 40, true).unwrap();
        drop(promise);
        supply.promise(100 << 10, false).unwrap();
    }

    #[test]
    fn a_machine_that_says_nothing_has_plenty() {
        Supply::new("/nowhere/meminfo".into())
            .promise(u64::MAX, false)
            .unwrap();
    }
}
