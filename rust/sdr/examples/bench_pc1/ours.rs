//! This engine's kernels on a stretch of layer 2.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sdr::arena::{Arena, Buffer, Pool};
use sdr::graph::{GraphSpec, GraphVersion, BASE_DEGREE, NODE_SIZE};
use sdr::kernel::{advance, Kernel, Lane, LaneMemory};
use sdr::parents::{default_dir, ParentsCache};

use crate::clock::{Measured, Stopwatch};

/// Shortest time of one measurement.
const ENOUGH: Duration = Duration::from_millis(500);
/// Nodes between two looks at the clock, as in the engine.
const STEP: u32 = 1024;
/// Nodes that lanes are apart, as sectors that started at different times are.
const APART: u32 = 1_237;

/// The graph of proof type V1_1 of a sector size.
pub fn spec(size: u64) -> Result<GraphSpec> {
    let mut porep_id = [0; 32];
    porep_id[0] = if size == 8 << 20 { 6 } else { 7 };
    GraphSpec::new(porep_id, GraphVersion::V1_1, size)
}

pub fn parents(size: u64) -> Result<Arc<ParentsCache>> {
    let threads = std::thread::available_parallelism()?.get();
    let cache = ParentsCache::obtain(
        &default_dir(),
        spec(size)?,
        threads,
        &mut |_, _| Ok(()),
        &mut |text| {
            eprintln!("{text}");
        },
    )?;
    Ok(Arc::new(cache))
}

/// Label memory for a number of lanes.
pub struct Lanes {
    parents: Arc<ParentsCache>,
    memory: Vec<(Buffer, Buffer)>,
}

impl Lanes {
    /// Memory for `count` lanes, each with its own.
    pub fn new(parents: &Arc<ParentsCache>, count: usize) -> Result<Self> {
        let arena = Arena::new(
            Pool::from_env(&mut |text| eprintln!("{text}")),
            "/sys".as_ref(),
        );
        let size = parents.spec().layer_size() as usize;
        let mut say = |text| eprintln!("{text}");
        let mut buffer = || {
            let buffer = arena.allocate(size, None, false, &mut say)?;
            buffer.settle(&mut say)?;
            anyhow::Ok(buffer)
        };
        let memory = (0..count)
            .map(|_| Ok((buffer()?, buffer()?)))
            .collect::<Result<_>>()?;
        Ok(Lanes {
            parents: parents.clone(),
            memory,
        })
    }

    pub fn backing(&self) -> String {
        format!("{:?}", self.memory[0].0.backing())
    }

    /// The speed of `count` lanes together, from about the middle of the layer on; none if there is no
    /// memory for so many.
    pub fn measure(&mut self, kernel: &dyn Kernel, count: usize) -> Result<Option<Measured>> {
        let Some(memory) = self.memory.get(..count) else {
            return Ok(None);
        };
        let middle = self.parents.spec().nodes / 2;
        let mut lanes: Vec<_> = (0..)
            .zip(memory)
            .map(|(index, (labels, previous))| {
                let memory = LaneMemory {
                    labels: labels.as_ptr(),
                    previous: previous.as_ptr(),
                };
                // SAFETY: the buffers hold a label per node (whatever its value: labels are bytes),
                // live as long as self, and are used by this lane alone.
                unsafe {
                    Lane::new(self.parents.clone(), &[3; 32], 2, memory)
                        .starting_at(middle - index * APART)
                }
            })
            .collect();
        let mut lanes: Vec<_> = lanes.iter_mut().collect();
        let mut done = 0;
        let watch = Stopwatch::start();
        while watch.elapsed() < ENOUGH && lanes[0].left() >= STEP {
            advance(kernel, &mut lanes, STEP)?;
            done += lanes.len() as u32 * STEP;
        }
        Ok(Some(watch.finish(f64::from(done))))
    }

    /// The speed at which the parents' labels of `count` lanes come into the cache, in the order in which the lanes
    /// would hash them; none if there is no memory for so many.
    #[cfg(target_arch = "x86_64")]
    pub fn fetch(&mut self, count: usize) -> Option<Measured> {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};

        let memory = self.memory.get(..count)?;
        let rows = self.parents.rows();
        let mut done = 0;
        let watch = Stopwatch::start();
        let mut steps = (rows.len() / 2..rows.len()).step_by(STEP as usize);
        while watch.elapsed() < ENOUGH {
            let Some(first) = steps.next() else { break };
            for row in &rows[first..rows.len().min(first + STEP as usize)] {
                for (labels, previous) in memory {
                    for (place, parent) in row.iter().enumerate() {
                        let from = if place < BASE_DEGREE {
                            labels
                        } else {
                            previous
                        };
                        let label = from.as_ptr().wrapping_add(*parent as usize * NODE_SIZE);
                        // SAFETY: fetching needs no more than the instruction, which every x86-64 machine has.
                        unsafe { _mm_prefetch::<_MM_HINT_T0>(label.cast()) };
                    }
                    done += 1;
                }
            }
        }
        Some(watch.finish(f64::from(done)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn fetch(&mut self, _: usize) -> Option<Measured> {
        None
    }
}

/// How many lanes of a sector size fit into most of the memory that is free.
pub fn lanes_with_memory(size: u64) -> Result<usize> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let free = number.context("no MemAvailable in /proc/meminfo")? << 10;
    Ok(usize::try_from(free / 8 * 7 / (2 * size))?)
}
