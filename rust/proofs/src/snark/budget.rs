//! How much memory proofs may take.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use groth16::Memory;

/// Environment variable with the most memory that a proof may take: bytes, or a number of KiB, MiB, GiB or
/// TiB (`64GiB`).
const SETTING: &str = "DAMOCLES_C2_MEMORY";

const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// Bytes that may be taken, and who says so.
#[derive(Debug)]
pub struct Budget {
    bytes: u64,
    source: String,
}

impl Budget {
    /// What `DAMOCLES_C2_MEMORY` says; without it, what the host and this process's control groups have
    /// left. None where neither can be told.
    pub fn now() -> Result<Option<Self>> {
        match env::var_os(SETTING) {
            Some(value) if !value.is_empty() => set(&value).map(Some),
            _ => Ok(available(Path::new("/"))),
        }
    }

    /// Whether one more circuit may be synthesised while one is proven.
    ///
    /// An error that names both figures if there is too little for one proof with these parameters.
    pub fn allows_two(&self, needed: &Memory, parameters: &Path) -> Result<bool> {
        ensure!(
            needed.proof <= self.bytes,
            "a proof with {} needs {} of memory, but may take {} ({}): free memory, or set \
             {SETTING}={}GiB if that much can be had all the same",
            parameters.display(),
            gibibytes(needed.proof),
            gibibytes(self.bytes),
            self.source,
            needed.proof.div_ceil(1 << 30)
        );
        Ok(needed.proof + needed.assignment <= self.bytes)
    }
}

fn set(value: &OsStr) -> Result<Budget> {
    let Some(bytes) = value.to_str().and_then(bytes) else {
        bail!(
            "{SETTING}={}: expected a number of bytes, or of KiB, MiB, GiB or TiB, such as 64GiB",
            value.display()
        );
    };
    Ok(Budget {
        bytes,
        source: format!("{SETTING}={}", value.display()),
    })
}

fn bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(unit, shift)| {
        let number = text.strip_suffix(unit)?;
        Some((number, *shift))
    });
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: u64 = number.trim().parse().ok()?;
    number.checked_mul(1 << shift)
}

/// What the system whose files lie below `root` has left.
fn available(root: &Path) -> Option<Budget> {
    let host = fs::read_to_string(root.join("proc/meminfo")).ok();
    let host = host.and_then(|text| {
        let mut lines = text.lines();
        let kilobytes = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kilobytes: u64 = kilobytes.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Budget {
            bytes: kilobytes << 10,
            source: "available on this host".to_owned(),
        })
    });
    let groups = control_group(root).into_iter();
    groups.chain(host).min_by_key(|budget| budget.bytes)
}

/// What this process's control group (version 2) or one above it has left, the least of them.
fn control_group(root: &Path) -> Option<Budget> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let top = root.join("sys/fs/cgroup");
    let group = top.join(path);
    group
        .ancestors()
        .take_while(|group| group.starts_with(&top))
        .filter_map(|group| {
            let left = left_in(group).ok()??;
            Some(Budget {
                bytes: left,
                source: format!("left of {}", group.join("memory.max").display()),
            })
        })
        .min_by_key(|budget| budget.bytes)
}

/// The limit less what is taken; pages of files, which can be dropped, are not taken. None without a limit.
fn left_in(group: &Path) -> Result<Option<u64>> {
    let read = |name: &str| fs::read_to_string(group.join(name)).context("control group");
    let limit = read("memory.max")?;
    if limit.trim() == "max" {
        return Ok(None);
    }
    let limit: u64 = limit.trim().parse()?;
    let current: u64 = read("memory.current")?.trim().parse()?;
    let statistics = read("memory.stat")?;
    let statistic = |name: &str| -> u64 {
        let mut values = statistics.lines().filter_map(|line| line.split_once(' '));
        let value = values.find(|(key, _)| *key == name);
        value.map_or(0, |(_, value)| value.parse().unwrap_or(0))
    };
    let files = statistic("active_file") + statistic("inactive_file");
    Ok(Some(limit.saturating_sub(current.saturating_sub(files))))
}

/// To the next tenth, so that what is printed as needed is enough.
fn gibibytes(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Memory = Memory {
        assignment: 16 << 30,
        proof: 25 << 30,
    };

    fn budget(value: &str) -> Budget {
        set(OsStr::new(value)).unwrap()
    }

    #[test]
    fn a_budget_that_is_too_small_names_both_figures() {
        let path = Path::new("/p/v28.params");
        let error = budget("24GiB").allows_two(&NEEDED, path).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with(
                "a proof with /p/v28.params needs 25.0 GiB of memory, but may take 24.0 GiB \
                 (DAMOCLES_C2_MEMORY=24GiB)"
            ),
            "{error}"
        );
        assert!(error.contains("set DAMOCLES_C2_MEMORY=25GiB if"), "{error}");
        assert!(!budget("40GiB").allows_two(&NEEDED, path).unwrap());
        assert!(budget("41GiB").allows_two(&NEEDED, path).unwrap());
    }

    #[test]
    fn a_budget_is_bytes_or_binary_units() {
        assert_eq!(budget("1000").bytes, 1000);
        assert_eq!(budget("2 MiB").bytes, 2 << 20);
        assert_eq!(budget("1TiB").bytes, 1 << 40);
        for wrong in ["64GB", "GiB", "-1", "99999999999TiB", "1.5GiB"] {
            let error = set(OsStr::new(wrong)).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("DAMOCLES_C2_MEMORY={wrong}: expected a number")),
                "{error}"
            );
        }
    }

    #[test]
    fn without_a_setting_the_tightest_of_host_and_control_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(available(root.path()).is_none());
        write("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    5000 kB\n");
        assert_eq!(available(root.path()).unwrap().bytes, 5000 << 10);

        write("proc/self/cgroup", "0::/worker.service/child\n");
        write("sys/fs/cgroup/worker.service/child/memory.max", "max\n");
        assert_eq!(available(root.path()).unwrap().bytes, 5000 << 10);
        let group = "sys/fs/cgroup/worker.service";
        write(&format!("{group}/memory.max"), "1000000\n");
        write(&format!("{group}/memory.current"), "700000\n");
        write(
            &format!("{group}/memory.stat"),
            "anon 1\nactive_file 100000\ninactive_file 200000\n",
        );
        let found = available(root.path()).unwrap();
        assert_eq!(found.bytes, 600_000);
        assert!(
            found.source.ends_with("worker.service/memory.max"),
            "{found:?}"
        );
    }
}
