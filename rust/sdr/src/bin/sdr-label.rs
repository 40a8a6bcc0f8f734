//! Labels one sector from the command line: PC1's hashing alone, to look at it, measure it or cut it.
//!
//! `sdr-label SECTOR_BYTES LAYERS CACHE_DIR PARENTS_DIR REPLICA_ID` labels with the graph of proof type
//! V1_1 (porep id 5 for every size). It prints one line per report: `layer L node N`.

use std::env;
use std::io::{stdout, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{anyhow, Context, Result};
use sdr::graph::{GraphSpec, GraphVersion};
use sdr::parents::ParentsCache;
use sdr::{label_sector, Engine, Sector, Watch};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [size, layers, cache_dir, parents_dir, replica_id] = &arguments[..] else {
        anyhow::bail!("expected SECTOR_BYTES LAYERS CACHE_DIR PARENTS_DIR REPLICA_ID");
    };
    let mut porep_id = [0; 32];
    porep_id[0] = 5;
    let spec = GraphSpec::new(
        porep_id,
        GraphVersion::V1_1,
        size.parse().context("SECTOR_BYTES")?,
    )?;
    let replica_id: [u8; 32] = hex::decode(replica_id)
        .context("REPLICA_ID")?
        .try_into()
        .map_err(|_| anyhow!("REPLICA_ID: expected 64 hex digits"))?;

    let mut say = |text: String| eprintln!("{text}");
    let threads = std::thread::available_parallelism()?.get();
    let dir = Path::new(parents_dir);
    let sector = Sector {
        parents: Arc::new(ParentsCache::obtain(
            dir,
            spec,
            threads,
            &mut |_, _| Ok(()),
            &mut say,
        )?),
        replica_id,
        layers: layers.parse().context("LAYERS")?,
    };
    let engine = Engine::for_this_machine(&mut say)?;
    let mut watch = Watch {
        progress: &mut |progress| {
            writeln!(stdout(), "layer {} node {}", progress.layer, progress.node)?;
            Ok(())
        },
        say: &mut say,
    };
    let outcome = label_sector(&engine, &sector, Path::new(cache_dir), &mut watch)?;
    println!(
        "kept {:?} wall {:.3} s hashing {:.3} s on {} lanes per core",
        outcome.kept,
        outcome.wall.as_secs_f64(),
        outcome.hashing.as_secs_f64(),
        engine.lanes()
    );
    Ok(())
}
