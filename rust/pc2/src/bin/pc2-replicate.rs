//! Runs PC2 on one sector from the command line: to look at it, measure it or cut it.
//!
//! `pc2-replicate NODES LAYERS SUB_ARITY CACHE_DIR REPLICA` takes the layers and tree_d in CACHE_DIR; the
//! trees keep all rows. It prints one line per report, `done N of M`, and at the end `comm_r HEX`.

use std::env;
use std::fs::File;
use std::io::{stdout, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use pc2::{Engine, Sector, Shape};
use poseidon::{Kernel, Node};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [nodes, layers, sub_arity, cache_dir, replica] = &arguments[..] else {
        anyhow::bail!("expected NODES LAYERS SUB_ARITY CACHE_DIR REPLICA");
    };
    let cache_dir = Path::new(cache_dir);
    let tree_d = cache_dir.join("sc-02-data-tree-d.dat");
    let mut comm_d = Node::default();
    let file = File::open(&tree_d).with_context(|| format!("open {}", tree_d.display()))?;
    let root = file.metadata()?.len().saturating_sub(comm_d.len() as u64);
    file.read_exact_at(&mut comm_d, root)
        .with_context(|| format!("read {}", tree_d.display()))?;
    let sector = Sector {
        shape: Shape {
            nodes: nodes.parse().context("NODES")?,
            layers: layers.parse().context("LAYERS")?,
            sub_arity: sub_arity.parse().context("SUB_ARITY")?,
            top_arity: 0,
            rows_to_discard: 0,
        },
        cache_dir,
        data: &tree_d,
        comm_d,
        replica: Path::new(replica),
    };
    let engine = Engine {
        kernel: Kernel::best(),
        threads: thread::available_parallelism()?.get(),
    };
    let mut watch = |done, total| {
        let mut out = stdout().lock();
        writeln!(out, "done {done} of {total}")?;
        Ok(out.flush()?)
    };
    let commitments = engine.run(&sector, &mut watch, &mut |_| Ok(()))?;
    println!("comm_r {}", hex::encode(commitments.comm_r));
    Ok(())
}
