//! Counts the circuit of every parameter set and prints the rows of `src/shapes.rs`.
//!
//! `cargo run --release -p params --example circuit_shapes`: about a quarter of an hour, nearly all
//! of it for the sizes of 32 and 64 GiB.

use anyhow::Result;
use params::{Kind, ParameterSet, SECTOR_SIZES};

fn main() -> Result<()> {
    for kind in Kind::ALL {
        for sector_size in SECTOR_SIZES {
            let shape = ParameterSet::new(kind, sector_size)?.count()?;
            println!(
                "({kind:?}, {sector_size}) => ({}, {}, {}),",
                shape.inputs, shape.aux, shape.constraints
            );
        }
    }
    Ok(())
}
