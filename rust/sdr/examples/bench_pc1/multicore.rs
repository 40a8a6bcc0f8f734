//! The proofs crate's multicore path, which spreads one sector over several cores.

use anyhow::Result;

use crate::clock::Measured;

/// The crate's speed per core for layer 2 of a sector of `size` bytes: labels per second of CPU time of
/// all its threads, which spin while they wait and so keep their cores from others.
///
/// The whole layer is labelled, with reading layer 1 and writing layer 2.
#[cfg(feature = "multicore")]
pub fn measure(size: u64) -> Result<Measured> {
    use filecoin_proofs::constants::{SectorShape512MiB, SectorShape8MiB};
    use sdr::graph::NODE_SIZE;

    // Read once, at the first use.
    std::env::set_var("FIL_PROOFS_USE_MULTICORE_SDR", "1");
    if std::env::var_os("FIL_PROOFS_MULTICORE_SDR_PRODUCERS").is_none() {
        std::env::set_var("FIL_PROOFS_MULTICORE_SDR_PRODUCERS", "1");
    }
    let seconds = if size == 8 << 20 {
        layer_2::<SectorShape8MiB>(size)?
    } else {
        layer_2::<SectorShape512MiB>(size)?
    };
    Ok(Measured {
        labels_per_second: (size as usize / NODE_SIZE) as f64 / seconds,
        cycles_per_label: None,
    })
}

/// Seconds of CPU time for layer 2, layer 1 being there.
#[cfg(feature = "multicore")]
fn layer_2<Tree: 'static + filecoin_proofs::MerkleTreeTrait>(size: u64) -> Result<f64> {
    use crate::clock::process_time;
    use crate::judge::graph;
    use storage_proofs_porep::stacked::create_label::multi::create_labels_for_encoding;

    let dir = tempfile::tempdir()?;
    // Any labels will do; the crate takes a file of the right size for the layer.
    std::fs::write(
        dir.path().join("sc-02-data-layer-1.dat"),
        vec![1; size as usize],
    )?;
    let graph = graph::<Tree::Hasher>(size)?;
    let parents = graph.parent_cache()?;
    let start = process_time();
    create_labels_for_encoding::<Tree, _, _>(&graph, &parents, 2, [3; 32], dir.path())?;
    Ok((process_time() - start).as_secs_f64())
}

#[cfg(not(feature = "multicore"))]
pub fn measure(_: u64) -> Result<Measured> {
    // The table says what is missing.
    std::process::exit(1)
}
