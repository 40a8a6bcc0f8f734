//! Whole sectors: the crate's layer files, cancelled, damaged, out of space.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use common::{assert_layers, engine, judge_layers, label, layer_path, sector, spec, specs, Random};
use sdr::arena::{Arena, Pool};
use sdr::graph::GraphVersion;
use sdr::parents::ParentsCache;
use sdr::topology::{allowed_cpus, Core};
use sdr::{label_sector, last_layer, Engine, Watch};

#[test]
fn all_proof_types_at_2_kib_are_the_crates() {
    let engine = engine(1, 1);
    let mut random = Random(11);
    for spec in specs(2 << 10) {
        for layers in [2, 11] {
            let dir = tempfile::tempdir().unwrap();
            let sector = sector(spec, layers, &mut random);
            let (outcome, _) = label(&engine, &sector, dir.path());
            assert!(outcome.kept.is_empty());
            assert_layers(dir.path(), &judge_layers(&spec, &sector.replica_id, layers));
        }
    }
}

#[test]
fn an_8_mib_sector_is_the_crates() {
    let dir = tempfile::tempdir().unwrap();
    let sector = sector(specs(8 << 20)[1], 2, &mut Random(12));
    label(&engine(1, 1), &sector, dir.path());
    assert_layers(
        dir.path(),
        &judge_layers(sector.parents.spec(), &sector.replica_id, 2),
    );
}

#[test]
fn the_last_layer_for_decoding_is_the_crates() {
    let sector = sector(specs(2 << 10)[2], 11, &mut Random(14));
    let expected = judge_layers(sector.parents.spec(), &sector.replica_id, 11);
    let mut watch = Watch {
        progress: &mut |_| Ok(()),
        say: &mut |_| (),
    };
    let labels = last_layer(&engine(1, 1), &sector, &mut watch).unwrap();
    assert!(*labels == *expected[10]);
}

#[test]
fn damaged_and_foreign_layers_are_computed_again() {
    let mut random = Random(15);
    let engine = engine(1, 1);
    let dir = tempfile::tempdir().unwrap();
    let sector = sector(specs(2 << 10)[1], 11, &mut random);
    let expected = judge_layers(sector.parents.spec(), &sector.replica_id, 11);
    label(&engine, &sector, dir.path());

    // A flipped bit in layer 4, layer 7 cut, layer 8 without its checksum, layer 11 missing.
    let flipped = layer_path(dir.path(), 4);
    let mut bytes = fs::read(&flipped).unwrap();
    bytes[777] ^= 0x10;
    fs::write(&flipped, bytes).unwrap();
    fs::write(layer_path(dir.path(), 7), [0; 100]).unwrap();
    fs::remove_file(dir.path().join("sc-02-data-layer-8.sum")).unwrap();
    fs::remove_file(layer_path(dir.path(), 11)).unwrap();
    let (outcome, said) = label(&engine, &sector, dir.path());
    assert_eq!(outcome.kept, [1, 2, 3, 5, 6, 9, 10]);
    assert_layers(dir.path(), &expected);
    for (layer, why) in [
        (4, "checksum is wrong"),
        (7, "100 bytes found, 2048 expected"),
        (8, "no checksum file"),
    ] {
        let name = format!("layer-{layer}.dat");
        assert!(
            said.iter()
                .any(|text| text.contains(&name) && text.contains(why)),
            "{said:?}"
        );
    }
    assert_eq!(
        label(&engine, &sector, dir.path()).0.kept,
        (1..=11).collect::<Vec<_>>()
    );

    // The same directory for another replica, then for another proof type.
    let mut other = sector.clone();
    other.replica_id = random.field_element();
    let (outcome, said) = label(&engine, &other, dir.path());
    assert!(outcome.kept.is_empty() && said.iter().any(|text| text.contains("another replica")));
    other.parents = Arc::new(ParentsCache::in_memory(specs(2 << 10)[2]).unwrap());
    assert!(label(&engine, &other, dir.path()).0.kept.is_empty());
    assert_layers(
        dir.path(),
        &judge_layers(other.parents.spec(), &other.replica_id, 11),
    );
}

#[test]
fn a_cancelled_sector_keeps_its_layers_and_frees_its_place() {
    let engine = engine(1, 1);
    let dir = tempfile::tempdir().unwrap();
    let sector = sector(spec(5, GraphVersion::V1_1, 1 << 20), 11, &mut Random(16));
    let mut watch = Watch {
        progress: &mut |progress| {
            anyhow::ensure!(progress.layer < 3, "enough");
            Ok(())
        },
        say: &mut |_| (),
    };
    let error = label_sector(&engine, &sector, dir.path(), &mut watch).unwrap_err();
    assert_eq!(error.root_cause().to_string(), "enough");
    let (outcome, _) = label(&engine, &sector, dir.path());
    // Layer 2 was whole in memory, but not yet on the disk.
    assert_eq!(outcome.kept, [1]);
    assert_layers(
        dir.path(),
        &judge_layers(sector.parents.spec(), &sector.replica_id, 11),
    );
}

/// What a run that is not quite dead has open is not what the next one writes.
#[test]
fn a_leftover_of_a_dying_run_is_not_written_over() {
    let sector = sector(spec(5, GraphVersion::V1_1, 1 << 20), 1, &mut Random(25));
    let dir = tempfile::tempdir().unwrap();
    let partial = dir.path().join("sc-02-data-layer-1.partial");
    fs::write(&partial, "theirs").unwrap();
    let theirs = fs::File::open(&partial).unwrap();
    label(&engine(1, 1), &sector, dir.path());
    assert_eq!(std::io::read_to_string(theirs).unwrap(), "theirs");
}

#[test]
fn reading_a_layer_back_can_be_cancelled() {
    let engine = engine(1, 1);
    let sector = sector(spec(5, GraphVersion::V1_1, 1 << 20), 2, &mut Random(26));
    let dir = tempfile::tempdir().unwrap();
    label(&engine, &sector, dir.path());
    fs::remove_file(layer_path(dir.path(), 2)).unwrap();
    // Before the first layer: once for each layer that is checked, then while it is loaded.
    for ends_at in 0..2 {
        let reports = AtomicUsize::new(0);
        let mut watch = Watch {
            progress: &mut |progress| {
                assert_eq!(progress.layer, 0, "cancelled, it went on");
                std::thread::sleep(Duration::from_millis(150));
                let reported = reports.fetch_add(1, Ordering::Relaxed);
                ensure!(reported < ends_at, "cancelled");
                Ok(())
            },
            say: &mut |_| (),
        };
        let error = label_sector(&engine, &sector, dir.path(), &mut watch).unwrap_err();
        assert_eq!(error.to_string(), "cancelled");
        assert_eq!(reports.into_inner(), ends_at + 1);
    }
    assert!(!layer_path(dir.path(), 2).exists());
}

#[test]
fn progress_goes_forward_through_all_layers() {
    let mut seen = Vec::new();
    let mut watch = Watch {
        progress: &mut |progress| {
            seen.push(*progress);
            Ok(())
        },
        say: &mut |_| (),
    };
    let dir = tempfile::tempdir().unwrap();
    let sector = sector(spec(5, GraphVersion::V1_1, 1 << 20), 4, &mut Random(17));
    label_sector(&engine(1, 1), &sector, dir.path(), &mut watch).unwrap();
    let places: Vec<_> = seen
        .iter()
        .map(|progress| (progress.layer, progress.node))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    for layer in 1..=4 {
        assert!(places.contains(&(layer, 0)), "{places:?}");
    }
    let last = seen.last().unwrap();
    assert_eq!(
        (last.layer, last.node, last.left),
        (4, 1 << 15, Some(std::time::Duration::ZERO))
    );
    assert!(last.labels_per_second > 0.0);
    // Each layer is told with its rate once it is hashed.
    let mut hashed: Vec<_> = seen.iter().filter_map(|progress| progress.hashed).collect();
    assert!(hashed.iter().all(|(_, rate)| *rate > 0.0), "{hashed:?}");
    hashed.dedup();
    let layers: Vec<_> = hashed.iter().map(|(layer, _)| *layer).collect();
    assert_eq!(layers, [1, 2, 3, 4]);
}

/// A small tmpfs on a directory of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None, which is said, without the right to mount.
    fn new(size: &str) -> Option<Self> {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let options = format!("size={size}");
        if disk.mount(&["-t", "tmpfs", "-o", &options, "none"]) {
            return Some(disk);
        }
        common::skipped("mounting a small tmpfs needs root");
        None
    }

    fn grow(&self, size: &str) {
        assert!(self.mount(&["-o", &format!("remount,size={size}")]));
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let mut mount = Command::new("mount");
        let status = mount.args(arguments).arg(self.0.path()).status();
        status.is_ok_and(|status| status.success())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing is there to unmount where the mount failed.
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_is_said_and_the_sector_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new("3500k") else {
        return;
    };
    let engine = engine(1, 1);
    let sector = sector(spec(5, GraphVersion::V1_1, 1 << 20), 7, &mut Random(18));
    let mut watch = Watch {
        progress: &mut |_| Ok(()),
        say: &mut |_| (),
    };
    let error = label_sector(&engine, &sector, disk.path(), &mut watch).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("layer 4 of 7") && text.contains("disk is full"),
        "{text}"
    );
    assert!(text.contains("1048576 bytes are needed"), "{text}");
    let mut reading = Watch {
        progress: &mut |_| bail!("it reads the layers that are there"),
        say: &mut |_| (),
    };
    let again = label_sector(&engine, &sector, disk.path(), &mut reading).unwrap_err();
    assert_eq!(format!("{again:#}"), text);

    disk.grow("16m");
    let (outcome, _) = label(&engine, &sector, disk.path());
    assert_eq!(outcome.kept, [1, 2, 3]);
    assert_layers(
        disk.path(),
        &judge_layers(sector.parents.spec(), &sector.replica_id, 7),
    );
}

/// What a file system does that can't set space aside, or takes it back: a write in the middle of a layer
/// fails. Here the space is taken back and used by somebody else.
fn fill(partial: &Path, size: u64, filler: &Path) {
    let file = fs::File::options().write(true).open(partial).unwrap();
    file.set_len(0).unwrap();
    let mut other = fs::File::create(filler).unwrap();
    while other.write_all(&[1; 4096]).is_ok() {}
    file.set_len(size).unwrap();
}

#[test]
fn a_disk_that_gets_full_in_the_middle_of_a_layer_is_said_and_the_layers_before_it_are_kept() {
    const LAYERS: u32 = 6;
    let size = 8 << 20;
    let Some(disk) = SmallDisk::new("64m") else {
        return;
    };
    let engine = engine(1, 1);
    let sector = sector(spec(5, GraphVersion::V1_1, size), LAYERS, &mut Random(27));
    let filler = disk.path().join("filler");
    let mut cut = None;
    let mut watch = Watch {
        // A layer takes longer than the time between two reports, so that one of them is seen in its middle.
        progress: &mut |progress| {
            let name = format!("sc-02-data-layer-{}.partial", progress.layer);
            let partial = disk.path().join(name);
            let middle = 1..progress.nodes / 4 * 3;
            if cut.is_none()
                && progress.layer > 2
                && middle.contains(&progress.node)
                && partial.exists()
            {
                cut = Some(progress.layer);
                fill(&partial, size, &filler);
            }
            Ok(())
        },
        say: &mut |_| (),
    };
    let error = label_sector(&engine, &sector, disk.path(), &mut watch).unwrap_err();
    let cut = cut.expect("no layer was seen in its middle");
    let text = format!("{error:#}");
    let name = format!("sc-02-data-layer-{cut}.partial: the disk is full");
    assert!(
        text.starts_with(&format!(
            "layer {cut} of {LAYERS}; the layers before it are kept: write "
        )) && text.contains(&name)
            && text.contains("free some space and try again"),
        "{text}"
    );

    fs::remove_file(&filler).unwrap();
    let (outcome, _) = label(&engine, &sector, disk.path());
    assert_eq!(outcome.kept, (1..cut).collect::<Vec<_>>());
    // The crate takes long for so many labels; those of a run without a cut are its own (tests above).
    let whole = tempfile::tempdir().unwrap();
    label(&engine, &sector, whole.path());
    let expected: Vec<_> = (1..=LAYERS)
        .map(|layer| fs::read(layer_path(whole.path(), layer)).unwrap())
        .collect();
    assert_layers(disk.path(), &expected);
}

/// A node that this machine does not have: every page is elsewhere.
#[test]
fn label_memory_on_another_node_than_asked_for_is_told_and_the_sector_goes_on() {
    let core = Core {
        cpu: allowed_cpus().unwrap()[0],
        node: Some(63),
        cache: None,
    };
    let arena = Arena::new(Pool::default(), Path::new("/sys"));
    let engine = Engine::new(vec![core], common::kernel(), 1, arena, &mut |_| ()).unwrap();
    let sector = sector(spec(5, GraphVersion::V1_1, 4 << 20), 2, &mut Random(28));
    let dir = tempfile::tempdir().unwrap();
    let (_, said) = label(&engine, &sector, dir.path());
    assert_layers(
        dir.path(),
        &judge_layers(sector.parents.spec(), &sector.replica_id, 2),
    );
    let placed = engine
        .arena()
        .allocate(4096, None, true, &mut |_| ())
        .and_then(|buffer| {
            buffer.settle(&mut |_| ())?;
            buffer.placement()
        });
    if !placed.is_ok_and(|placed| !placed.is_empty()) {
        return common::skipped("the kernel does not tell where pages are");
    }
    let told: Vec<_> = said
        .iter()
        .filter(|text| text.contains("2 of 2 pages are not on NUMA node 63 as asked"))
        .collect();
    assert_eq!(told.len(), 2, "once for each buffer: {said:?}");
    assert!(
        said.iter()
            .any(|text| text.contains("can't be bound to NUMA node 63")),
        "{said:?}"
    );
}
