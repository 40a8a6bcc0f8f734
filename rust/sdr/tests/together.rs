//! Several sectors at once: on shared cores, waiting for places, memory and each other, cancelled.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::{assert_layers, engine, judge_layers, label, sector, spec, Random};
use sdr::arena::{create_files, Arena, Pool};
use sdr::graph::{GraphVersion, NODE_SIZE};
use sdr::topology::{allowed_cpus, Core};
use sdr::{label_sector, Engine, Sector, Watch};

/// Longer than any of these tests takes on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// More sectors than places, on cores that they share, each of its own size, graph and layer count:
/// lanes join and leave while others run.
#[test]
fn many_sectors_at_once_are_the_crates() {
    let mut random = Random(13);
    let sectors: Vec<Sector> = (0..24)
        .map(|number| {
            let version = [GraphVersion::V1_0, GraphVersion::V1_1][number % 2];
            let nodes = 500 + random.below(6_000);
            let spec = spec(number as u64, version, nodes * NODE_SIZE as u64);
            sector(spec, 1 + random.below(11) as u32, &mut random)
        })
        .collect();
    let lanes = common::kernel().max_lanes();
    let engine = engine(2, lanes);
    std::thread::scope(|scope| {
        for sector in &sectors {
            let engine = &engine;
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                label(engine, sector, dir.path());
                let expected =
                    judge_layers(sector.parents.spec(), &sector.replica_id, sector.layers);
                assert_layers(dir.path(), &expected);
            });
        }
    });
}

/// Labels `first`, which is held in its first layer from before `then` begins until that lets it go on, and
/// runs `then` beside it. Both sectors have two layers.
fn beside_a_held_one(
    engine: &Engine,
    [first, second]: &[Sector; 2],
    then: impl FnOnce(&Path, &dyn Fn()),
) {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let held = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut met = false;
            let mut watch = Watch {
                progress: &mut |progress| {
                    if progress.layer == 1 && !met {
                        met = true;
                        held.wait();
                        held.wait();
                    }
                    Ok(())
                },
                say: &mut |_| (),
            };
            label_sector(engine, first, dirs[0].path(), &mut watch).unwrap();
        });
        held.wait();
        then(dirs[1].path(), &|| _ = held.wait());
    });
    for (dir, sector) in dirs.iter().zip([first, second]) {
        let layers = judge_layers(sector.parents.spec(), &sector.replica_id, 2);
        assert_layers(dir.path(), &layers);
    }
}

/// An engine for two sectors, whose machine has no memory left but the `pool`'s files.
fn engine_without_memory(meminfo: &Path, pool: Pool) -> Engine {
    fs::write(meminfo, "MemAvailable: 1 kB\n").unwrap();
    let core = Core {
        cpu: allowed_cpus().unwrap()[0],
        node: None,
        cache: None,
    };
    let arena = Arena::new(pool, Path::new("/sys")).with_meminfo(meminfo);
    Engine::new(vec![core; 2], common::kernel(), 1, arena, &mut |_| ()).unwrap()
}

/// A sector alone goes on whatever the machine says; a second one waits until the first has given its
/// memory back.
#[test]
fn a_sector_waits_for_the_memory_that_others_hold() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine_without_memory(&dir.path().join("meminfo"), Pool::default());
    let mut random = Random(19);
    let sectors = [(); 2].map(|()| sector(spec(5, GraphVersion::V1_1, 1 << 20), 2, &mut random));
    beside_a_held_one(&engine, &sectors, |dir, let_go| {
        let mut said = Vec::new();
        let mut watch = Watch {
            progress: &mut |_| Ok(()),
            say: &mut |text| {
                if text.contains("waits for memory") {
                    let_go();
                }
                said.push(text);
            },
        };
        label_sector(&engine, &sectors[1], dir, &mut watch).unwrap();
        let text = said.iter().find(|text| text.contains("waits for memory"));
        assert!(
            text.unwrap()
                .contains("1048576 bytes of memory are needed for a label buffer"),
            "{said:?}"
        );
    });
}

/// Huge pages are cleared when they are taken, which takes long: one of a sector's two buffers that is there
/// already stays taken while the other is waited for.
#[test]
fn a_sector_that_waits_for_memory_keeps_the_huge_pages_it_has_got() {
    let dir = tempfile::tempdir().unwrap();
    // Room for a sector and a half.
    let spec = spec(5, GraphVersion::V1_1, 1 << 20);
    let files = create_files(&dir.path().join("numa_0"), spec.layer_size(), 3, None).unwrap();
    let pattern = format!("{}/numa_$NUMA_NODE_INDEX", dir.path().display());
    let pool = Pool::load(&pattern, &mut |_| ()).unwrap();
    let engine = engine_without_memory(&dir.path().join("meminfo"), pool);
    let mut random = Random(29);
    let sectors = [(); 2].map(|()| sector(spec, 2, &mut random));
    beside_a_held_one(&engine, &sectors, |dir, let_go| {
        let mut waits = 0;
        let mut free_while_it_waited = Vec::new();
        let mut watch = Watch {
            // Between two tries to get the second buffer.
            progress: &mut |progress| {
                if progress.layer == 0 {
                    waits += 1;
                    let free = |file: &&PathBuf| {
                        let file = fs::File::open(file).unwrap();
                        sdr::lock::try_exclusive(file).unwrap().is_some()
                    };
                    match waits {
                        1..=3 => free_while_it_waited.extend(files.iter().find(free).cloned()),
                        4 => let_go(),
                        _ => (),
                    }
                }
                Ok(())
            },
            say: &mut |_| (),
        };
        label_sector(&engine, &sectors[1], dir, &mut watch).unwrap();
        assert!(free_while_it_waited.is_empty(), "{free_while_it_waited:?}");
    });
}

#[test]
fn a_sector_that_waits_for_a_place_says_what_would_give_it_one() {
    let engine = engine(1, 1);
    let mut random = Random(30);
    let sectors = [(); 2].map(|()| sector(spec(5, GraphVersion::V1_1, 64 << 10), 2, &mut random));
    beside_a_held_one(&engine, &sectors, |dir, let_go| {
        let mut said = Vec::new();
        let mut waits = 0;
        let mut watch = Watch {
            progress: &mut |progress| {
                if progress.layer == 0 {
                    waits += 1;
                    if waits == 2 {
                        let_go();
                    }
                }
                Ok(())
            },
            say: &mut |text| said.push(text),
        };
        label_sector(&engine, &sectors[1], dir, &mut watch).unwrap();
        let about: Vec<_> = said
            .iter()
            .filter(|text| text.contains("waits for a place: 1 core hashes 1 sector at a time"))
            .collect();
        assert!(
            about.len() == 1
                && about[0].contains("concurrent")
                && about[0].contains("cgroup.cpuset"),
            "{said:?}"
        );
    });
}

/// A core that the kernel does not give: told, and hashed all the same.
#[test]
fn a_core_that_can_not_be_had_is_told_and_the_sector_is_labelled() {
    let core = Core {
        cpu: 100_000,
        node: None,
        cache: None,
    };
    let arena = Arena::new(Pool::default(), Path::new("/sys"));
    let mut said = Vec::new();
    let engine = Engine::new(vec![core], common::kernel(), 1, arena, &mut |text| {
        said.push(text)
    })
    .unwrap();
    assert!(
        said.len() == 1 && said[0].contains("can't be pinned to CPU 100000"),
        "{said:?}"
    );
    let sector = sector(spec(5, GraphVersion::V1_1, 64 << 10), 2, &mut Random(32));
    let dir = tempfile::tempdir().unwrap();
    label(&engine, &sector, dir.path());
    let layers = judge_layers(sector.parents.spec(), &sector.replica_id, 2);
    assert_layers(dir.path(), &layers);
}

/// Three sectors on three cores of a machine with memory for one.
#[test]
fn sectors_that_wait_for_memory_at_the_same_time_all_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let meminfo = dir.path().join("meminfo");
    fs::write(&meminfo, "MemAvailable: 1 kB\n").unwrap();
    let core = Core {
        cpu: allowed_cpus().unwrap()[0],
        node: None,
        cache: None,
    };
    let arena = Arena::new(Pool::default(), Path::new("/sys")).with_meminfo(&meminfo);
    let engine = Engine::new(vec![core; 3], common::kernel(), 1, arena, &mut |_| ()).unwrap();
    let mut random = Random(20);
    let sectors = [(); 6].map(|()| sector(spec(5, GraphVersion::V1_1, 64 << 10), 2, &mut random));
    std::thread::scope(|scope| {
        for sector in &sectors {
            let engine = &engine;
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                let start = Instant::now();
                let mut watch = Watch {
                    progress: &mut |_| {
                        anyhow::ensure!(start.elapsed() < LONG, "waited for ever");
                        Ok(())
                    },
                    say: &mut |_| (),
                };
                label_sector(engine, sector, dir.path(), &mut watch).unwrap();
                let layers = judge_layers(sector.parents.spec(), &sector.replica_id, 2);
                assert_layers(dir.path(), &layers);
            });
        }
    });
}

/// Lanes beside each other, some of which are cancelled in the middle of a layer.
#[test]
fn cancelled_sectors_leave_those_beside_them_the_crates() {
    let mut random = Random(22);
    let lanes = common::kernel().max_lanes();
    let engine = engine(1, lanes);
    let cancelled = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..3 * lanes {
            let spec = spec(5, GraphVersion::V1_1, (1 + random.below(4)) << 18);
            let sector = sector(spec, 3, &mut random);
            let at = (
                1 + random.below(3) as u32,
                random.below(u64::from(spec.nodes)) as u32,
            );
            let (engine, cancelled) = (&engine, &cancelled);
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                if number % 2 == 0 {
                    label(engine, &sector, dir.path());
                    let expected = judge_layers(&spec, &sector.replica_id, 3);
                    return assert_layers(dir.path(), &expected);
                }
                let mut watch = Watch {
                    progress: &mut |progress| {
                        anyhow::ensure!((progress.layer, progress.node) < at, "enough");
                        Ok(())
                    },
                    say: &mut |_| (),
                };
                let result = label_sector(engine, &sector, dir.path(), &mut watch);
                assert_eq!(result.unwrap_err().root_cause().to_string(), "enough");
                cancelled.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(cancelled.into_inner(), 3 * lanes / 2);
}

#[test]
fn the_rate_is_that_of_hashing_after_a_long_wait_for_a_place() {
    let engine = engine(1, 1);
    let mut random = Random(23);
    let [first, second] =
        [(); 2].map(|()| sector(spec(5, GraphVersion::V1_1, 1 << 20), 2, &mut random));
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let started = Barrier::new(2);
    const HELD: Duration = Duration::from_secs(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = false;
            let mut watch = Watch {
                progress: &mut |progress| {
                    if progress.layer == 1 && !held {
                        held = true;
                        started.wait();
                        std::thread::sleep(HELD);
                    }
                    Ok(())
                },
                say: &mut |_| (),
            };
            label_sector(&engine, &first, dirs[0].path(), &mut watch).unwrap();
        });
        started.wait();
        let start = Instant::now();
        let mut rate = 0.0;
        let mut watch = Watch {
            progress: &mut |progress| {
                rate = progress.labels_per_second;
                Ok(())
            },
            say: &mut |_| (),
        };
        label_sector(&engine, &second, dirs[1].path(), &mut watch).unwrap();
        let hashing = Duration::from_secs_f64(2.0 * f64::from(1 << 15) / rate);
        assert!(hashing + HELD * 3 / 4 < start.elapsed(), "{hashing:?}");
    });
}

/// A run that was thought dead still writes: the next one of the sector waits for its end.
#[test]
fn a_second_run_in_the_same_directory_waits_for_the_first() {
    let engine = engine(2, 1);
    let sector = sector(spec(5, GraphVersion::V1_1, 1 << 20), 3, &mut Random(24));
    let dir = tempfile::tempdir().unwrap();
    let waiting = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut met = false;
            let mut watch = Watch {
                progress: &mut |progress| {
                    if progress.layer == 1 && !met {
                        met = true;
                        waiting.wait();
                        waiting.wait();
                    }
                    Ok(())
                },
                say: &mut |_| (),
            };
            label_sector(&engine, &sector, dir.path(), &mut watch).unwrap();
        });
        waiting.wait();
        let mut watch = Watch {
            progress: &mut |_| Ok(()),
            say: &mut |text| {
                assert!(text.contains("another process still writes"), "{text}");
                waiting.wait();
            },
        };
        let outcome = label_sector(&engine, &sector, dir.path(), &mut watch).unwrap();
        assert_eq!(outcome.kept, [1, 2, 3]);
    });
    assert_layers(
        dir.path(),
        &judge_layers(sector.parents.spec(), &sector.replica_id, 3),
    );
}
