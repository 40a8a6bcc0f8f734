//! Who computes a stage: this program's engine or the proofs library.

use std::env;
use std::ffi::OsStr;

use anyhow::{bail, Result};

/// Who computes a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Computer {
    /// This program's engine.
    Engine,
    /// The proofs library.
    Library,
}

impl Computer {
    /// The one that the environment variable names: `crate` is the library; the name of the engine,
    /// or no value, is the engine.
    pub fn from_env(variable: &str, engine: &str) -> Result<Self> {
        Self::named(variable, engine, &env::var_os(variable).unwrap_or_default())
    }

    fn named(variable: &str, engine: &str, value: &OsStr) -> Result<Self> {
        match value.to_str() {
            Some("crate") => Ok(Computer::Library),
            Some(name) if name.is_empty() || name == engine => Ok(Computer::Engine),
            _ => bail!(
                "{variable}={}: expected {engine} (this program's engine, also when it is not set) or \
                 crate (the proofs library's)",
                value.display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_computer_is_chosen_by_name() {
        let named = |value: &str| Computer::named("VARIABLE", "sdr", OsStr::new(value));
        assert_eq!(named("").unwrap(), Computer::Engine);
        assert_eq!(named("sdr").unwrap(), Computer::Engine);
        assert_eq!(named("crate").unwrap(), Computer::Library);
        let error = named("Crate").unwrap_err().to_string();
        assert!(
            error.starts_with("VARIABLE=Crate: expected sdr ("),
            "{error}"
        );
    }
}
