//! Label memory: the pool's files, reserved pages, and the fallbacks in words.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{epyc_two_nodes, write};
use sdr::arena::{create_files, file_prefix, Arena, Backing, Pool, MIB2_PAGE};

const SIZE: usize = 4 << 20;

/// Held by tests that start programs and by those that look whether a file is free: between fork and exec
/// a program holds every lock of this process as well.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(pattern: &str) -> (Pool, Vec<String>) {
    let mut said = Vec::new();
    let pool = Pool::load(pattern, &mut |text| said.push(text)).unwrap();
    (pool, said)
}

/// Allocates on a machine whose sysfs is `system`.
fn allocate(arena: &Arena, node: Option<u32>) -> (sdr::arena::Buffer, Vec<String>) {
    let mut said = Vec::new();
    let buffer = arena
        .allocate(SIZE, node, false, &mut |text| said.push(text))
        .unwrap();
    assert_eq!(buffer.size(), SIZE);
    buffer.settle(&mut |text| said.push(text)).unwrap();
    (buffer, said)
}

#[test]
fn files_are_named_by_size_as_before() {
    let named = [
        (512, "512_B"),
        (2 << 10, "2.0_kiB"),
        (8 << 20, "8.0_MiB"),
        (512 << 20, "512.0_MiB"),
        (32 << 30, "32.0_GiB"),
        (3 << 29, "1.5_GiB"),
    ];
    for (size, name) in named {
        assert_eq!(file_prefix(size), name);
    }
}

#[test]
fn patterns_find_the_direct_children_of_every_nodes_directory() {
    let root = tempfile::tempdir().unwrap();
    for path in [
        "numa_0/a",
        "numa_0/.hidden",
        "numa_1/b",
        "numa_12/c",
        "numa_0/deeper/d",
        "numa_x/e",
        "other_1/f",
    ] {
        write(root.path(), path, "labels");
    }
    let pattern = format!("{}/numa_$NUMA_NODE_INDEX/", root.path().display());
    let (pool, said) = load(&pattern);
    assert_eq!(pool.len(), 4, "a, .hidden, b, c");
    assert!(said.is_empty(), "{said:?}");

    write(root.path(), "node7huge/pages/g", "labels");
    let inner = format!("{}/node$NUMA_NODE_INDEXhuge/pages", root.path().display());
    assert_eq!(load(&inner).0.len(), 1);

    let error = Pool::load("/mnt/huge", &mut |_| ())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("/mnt/huge") && error.contains("$NUMA_NODE_INDEX"),
        "{error}"
    );
}

#[test]
fn a_file_is_used_by_one_buffer_at_a_time_and_only_for_its_size_and_node() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("numa_1");
    let made = create_files(&dir, SIZE as u64, 1, None).unwrap();
    assert_eq!(made, [dir.join("4.0_MiB_0")]);
    create_files(&dir, 8192, 1, None).unwrap();
    let (pool, _) = load(&format!("{}/numa_$NUMA_NODE_INDEX", root.path().display()));
    let system = tempfile::tempdir().unwrap();
    let arena = Arena::new(pool, system.path());

    let (first, _) = allocate(&arena, Some(1));
    assert_eq!(*first.backing(), Backing::PoolFile(made[0].clone()));
    // In use now; the lock is the same whether this process or another holds it.
    let (second, said) = allocate(&arena, Some(1));
    assert_eq!(*second.backing(), Backing::Plain);
    let text = said
        .iter()
        .find(|text| text.contains("no free file"))
        .unwrap();
    assert!(
        text.contains(
            "4194304 bytes on NUMA node 1: 2 files there, 1 of that size, 1 of them in use"
        ),
        "{text}"
    );
    // Said once.
    let (_, said) = allocate(&arena, Some(1));
    assert!(
        said.iter().all(|text| !text.contains("no free file")),
        "{said:?}"
    );
    drop(first);
    assert!(matches!(
        allocate(&arena, None).0.backing(),
        Backing::PoolFile(_)
    ));
    let (other, said) = allocate(&arena, Some(0));
    assert_eq!(*other.backing(), Backing::Plain);
    assert!(
        said.iter()
            .any(|text| text.contains("NUMA node 0: 0 files there")),
        "{said:?}"
    );
}

#[test]
fn a_file_that_another_process_holds_is_left_to_it() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let made = create_files(&root.path().join("numa_0"), SIZE as u64, 1, None).unwrap();
    let (pool, _) = load(&format!("{}/numa_$NUMA_NODE_INDEX", root.path().display()));
    // Holds the lock until its input ends, and says when it has it.
    let other = Command::new("flock")
        .arg("--exclusive")
        .arg(&made[0])
        .args(["sh", "-c", "echo held; read -r line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut other) = other else {
        return common::skipped("there is no program flock to hold a file with");
    };
    let mut line = String::new();
    BufReader::new(other.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "held\n");
    let system = tempfile::tempdir().unwrap();
    let arena = Arena::new(pool, system.path());
    let (buffer, said) = allocate(&arena, Some(0));
    assert_eq!(*buffer.backing(), Backing::Plain);
    assert!(
        said.iter()
            .any(|text| text.contains("1 of that size, 1 of them in use")),
        "{said:?}"
    );
    drop(other.stdin.take());
    other.wait().unwrap();
    let (buffer, _) = allocate(&arena, Some(0));
    assert_eq!(*buffer.backing(), Backing::PoolFile(made[0].clone()));
}

#[test]
fn a_file_that_has_changed_its_size_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let made = create_files(&root.path().join("numa_0"), SIZE as u64, 1, None).unwrap();
    let (pool, _) = load(&format!("{}/numa_$NUMA_NODE_INDEX", root.path().display()));
    fs::File::options()
        .write(true)
        .open(&made[0])
        .unwrap()
        .set_len(100)
        .unwrap();
    let system = tempfile::tempdir().unwrap();
    let (buffer, said) = allocate(&Arena::new(pool, system.path()), None);
    assert_eq!(*buffer.backing(), Backing::Plain);
    assert!(
        said.iter()
            .any(|text| text.contains("no longer a file of 4194304 bytes")),
        "{said:?}"
    );
}

/// A tmpfs with room for one of two files, which have their size and no memory; needs the right to mount.
#[test]
fn a_file_whose_memory_is_not_there_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("numa_0");
    fs::create_dir(&dir).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m", "none"])
        .arg(&dir)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return common::skipped("mounting a small tmpfs needs root");
    }
    for name in ["a", "b", "c"] {
        let file = fs::File::create(dir.join(name)).unwrap();
        file.set_len(SIZE as u64).unwrap();
    }
    let system = tempfile::tempdir().unwrap();
    let (pool, _) = load(&format!("{}/numa_$NUMA_NODE_INDEX", root.path().display()));
    let arena = Arena::new(pool, system.path());
    let (first, _) = allocate(&arena, None);
    assert_eq!(*first.backing(), Backing::PoolFile(dir.join("a")));
    assert_eq!(
        first.placement().unwrap().values().sum::<usize>(),
        SIZE / 4096,
        "every page is there"
    );
    let (second, said) = allocate(&arena, None);
    assert_eq!(*second.backing(), Backing::Plain);
    for name in ["numa_0/b", "numa_0/c"] {
        assert!(
            said.iter()
                .any(|text| text.contains(name) && text.contains("No space left")),
            "{said:?}"
        );
    }
    drop((first, second));
    assert!(Command::new("umount").arg(&dir).status().unwrap().success());
}

#[test]
fn a_pool_that_can_not_be_had_is_said_and_empty() {
    let mut said = Vec::new();
    let pool = Pool::load_or_empty("/mnt/huge/numa_0", &mut |text| said.push(text));
    assert!(pool.is_empty());
    assert!(
        said[0].contains("/mnt/huge/numa_0") && said[0].contains("goes on without"),
        "{said:?}"
    );

    // In place of a node's directory there is a file: the other nodes' count.
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "numa_0", "not a directory");
    write(root.path(), "numa_1/a", "labels");
    let (pool, said) = load(&format!("{}/numa_$NUMA_NODE_INDEX", root.path().display()));
    assert_eq!(pool.len(), 1);
    assert!(said[0].contains("numa_0"), "{said:?}");
}

#[test]
fn huge_pages_that_nobody_reserved_are_said_once_per_node_with_the_command() {
    let system = epyc_two_nodes();
    let arena = Arena::new(Pool::default(), system.path());
    let free = "devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
    for (node, times) in [(0, 1), (0, 0), (1, 1), (1, 0)] {
        let (_, said) = allocate(&arena, Some(node));
        let about: Vec<_> = said
            .iter()
            .filter(|text| text.contains("needed for the two label buffers"))
            .collect();
        assert_eq!(about.len(), times, "{said:?}");
        let command = format!("echo 4 > {}", system.path().display());
        assert!(about.iter().all(|text| text.contains(&command)), "{said:?}");
        // Another count is no other thing to say.
        write(system.path(), free, "1\n");
    }
}

#[test]
fn making_files_never_touches_one_that_was_there() {
    let root = tempfile::tempdir().unwrap();
    let there = root.path().join("4.0_kiB_1");
    fs::write(&there, "someone's").unwrap();
    let error = create_files(root.path(), 4096, 3, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("4.0_kiB_1"), "{error}");
    assert_eq!(fs::read_to_string(&there).unwrap(), "someone's");
    assert!(!root.path().join("4.0_kiB_0").exists());
}

#[test]
fn too_few_reserved_pages_are_said_with_the_command() {
    let system = epyc_two_nodes();
    let arena = Arena::new(Pool::default(), system.path());
    write(
        system.path(),
        "devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
        "3",
    );
    write(
        system.path(),
        "devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
        "1",
    );
    let (buffer, said) = allocate(&arena, Some(0));
    assert_eq!(*buffer.backing(), Backing::Plain);
    assert!(
        said.iter().any(|text| text
            .contains("4 needed for the two label buffers of a sector, 1 of 3 free")
            && text.contains("echo 6 > ")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|text| text.contains("transparent huge pages are off")),
        "{said:?}"
    );
}

/// Huge pages of 2 MiB, reserved for the time of the test.
struct Reserved {
    counter: PathBuf,
    before: String,
}

impl Reserved {
    /// Reserves `pages` more; says why if it can't.
    fn new(pages: u64) -> Result<Self, String> {
        let counter =
            Path::new("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages");
        let before = fs::read_to_string(counter)
            .map_err(|error| format!("{}: {error}", counter.display()))?;
        let wanted = before.trim().parse::<u64>().unwrap() + pages;
        fs::write(counter, wanted.to_string())
            .map_err(|error| format!("{}: {error}", counter.display()))?;
        let reserved = Reserved {
            counter: counter.to_owned(),
            before,
        };
        let found = fs::read_to_string(counter).unwrap();
        match found.trim().parse::<u64>().unwrap() >= wanted {
            true => Ok(reserved),
            false => Err(format!(
                "{wanted} huge pages asked for, the kernel has {}",
                found.trim()
            )),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        fs::write(&self.counter, &self.before).unwrap();
    }
}

/// A hugetlbfs, for the time of the test.
struct Mounted(PathBuf);

impl Mounted {
    fn at(dir: &Path) -> Option<Self> {
        let status = Command::new("mount")
            .args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"])
            .arg(dir)
            .status();
        let mounted = status.is_ok_and(|status| status.success());
        mounted.then(|| Mounted(dir.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn reserved_huge_pages_are_used_on_the_node_asked_for() {
    let _alone = alone();
    let reserved = match Reserved::new(8) {
        Ok(reserved) => reserved,
        Err(why) => return common::skipped(&format!("no huge pages can be reserved here: {why}")),
    };
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("numa_0");
    fs::create_dir(&dir).unwrap();
    let Some(_mounted) = Mounted::at(&dir) else {
        return common::skipped("hugetlbfs can't be mounted here");
    };
    create_files(&dir, SIZE as u64, 2, Some(0)).unwrap();
    let (pool, said) = load(&format!("{}/numa_$NUMA_NODE_INDEX", root.path().display()));
    assert!(said.is_empty(), "{said:?}");
    let arena = Arena::new(pool, Path::new("/sys"));

    // Two files, then what is reserved beside them, then transparent or plain pages.
    let buffers: Vec<_> = (0..4).map(|_| allocate(&arena, Some(0)).0).collect();
    for buffer in &buffers[..2] {
        assert!(
            matches!(buffer.backing(), Backing::PoolFile(_)),
            "{:?}",
            buffer.backing()
        );
    }
    for buffer in &buffers[2..] {
        assert_eq!(*buffer.backing(), Backing::HugePages(MIB2_PAGE));
    }
    for buffer in &buffers {
        let pages = SIZE / MIB2_PAGE as usize;
        assert_eq!(
            buffer.placement().unwrap().into_iter().collect::<Vec<_>>(),
            [(0, pages)]
        );
        // SAFETY: the buffer is SIZE bytes, used here alone.
        unsafe { buffer.as_ptr().write_bytes(0xff, SIZE) };
    }
    // This machine may have pages of its own.
    if reserved.before.trim() == "0" {
        assert!(matches!(
            allocate(&arena, Some(0)).0.backing(),
            Backing::Transparent | Backing::Plain
        ));
    }
}
