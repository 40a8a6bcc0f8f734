//! Passes the versions of the proofs crates, as locked, to the code that reports them.

use std::path::Path;
use std::{env, fs};

const REPORTED: [&str; 5] = [
    "filecoin-proofs-api",
    "filecoin-proofs",
    "storage-proofs-porep",
    "bellperson",
    "blst",
];

fn main() {
    let lock =
        Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(&lock)
        .unwrap_or_else(|error| panic!("read {}: {error}", lock.display()));
    let versions: Vec<String> = REPORTED
        .iter()
        .map(|name| format!("{name}={}", locked_version(&text, name)))
        .collect();
    println!("cargo::rustc-env=LOCKED_VERSIONS={}", versions.join(" "));
    println!(
        "cargo::rustc-env=BUILD_PROFILE={}",
        env::var("PROFILE").expect("set by cargo")
    );
}

/// Version of the package `name` in the text of a `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, name: &str) -> &'a str {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock
        .split_once(&entry)
        .unwrap_or_else(|| panic!("Cargo.lock has no package {name}"));
    let (version, _) = rest.split_once('"').expect("a quoted version");
    version
}
