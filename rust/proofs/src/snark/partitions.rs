//! The proofs of a circuit's partitions.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{ensure, Result};
use bellperson::groth16::Proof;
use bellperson::Circuit;
use blstrs::{Bls12, Scalar};
use groth16::{Arithmetic, Memory, Parameters};
use storage_proofs_core::compound_proof::{CircuitComponent, CompoundProof};
use storage_proofs_core::parameter_cache::{
    parameter_cache_params_path, parameter_cache_verifying_key_path, read_cached_params,
    CacheableParameters, ParameterSetMetadata,
};
use storage_proofs_core::proof::ProofScheme;
use storage_proofs_core::settings::SETTINGS;

use super::budget::Budget;
use crate::control::Control;

/// How a circuit is synthesised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Synthesis {
    /// One constraint after the other.
    Whole,
    /// Parts on several threads, which are joined.
    Joined,
}

/// One proof per vanilla proof, each that of its partition, one after the other. The next partition is
/// synthesised while one is proven if there is memory for both. Progress is the prover's, that of all
/// partitions together.
pub fn prove_partitions<'a, S, C, P>(
    public_inputs: &S::PublicInputs,
    vanilla_proofs: &[S::Proof],
    public_params: &S::PublicParams,
    synthesis: Synthesis,
    arithmetic: Arithmetic,
    control: &mut Control<'_>,
) -> Result<Vec<Proof<Bls12>>>
where
    S: ProofScheme<'a>,
    S::Proof: Sync + Send,
    S::PublicParams: ParameterSetMetadata + Sync + Send,
    S::PublicInputs: Clone + Sync,
    C: Circuit<Scalar> + CircuitComponent + Send,
    P: CompoundProof<'a, S, C> + CacheableParameters<C, S::PublicParams>,
{
    let parameters = open(&P::cache_identifier(public_params))?;
    let needed = Memory::of(&parameters, arithmetic, synthesis == Synthesis::Joined);
    let ahead = match Budget::now()? {
        Some(budget) => budget.allows_two(&needed, parameters.path())?,
        None => false,
    };
    check_digest(parameters.path())?;
    let (cancelled, abandoned) = (control.flag(), AtomicBool::new(false));
    let stopped = || cancelled.load(Ordering::Relaxed) || abandoned.load(Ordering::Relaxed);
    let partitions = vanilla_proofs.len() as u64;
    one_by_one(
        vanilla_proofs.len(),
        ahead,
        |partition| {
            let circuit = P::circuit(
                public_inputs,
                C::ComponentPrivateInputs::default(),
                &vanilla_proofs[partition],
                public_params,
                Some(partition),
            )?;
            groth16::synthesise(circuit, &parameters, &stopped)
        },
        |partition, assignment| {
            // A synthesis that was cancelled ends with an error of the circuit's.
            control.check()?;
            let partition = partition as u64;
            let proof = groth16::prove(assignment?, &parameters, arithmetic, &mut |done, total| {
                control.step(partition * total + done, partitions * total)
            });
            // Nobody waits for a synthesis that nobody will take.
            abandoned.store(proof.is_err(), Ordering::Relaxed);
            proof
        },
    )
}

/// `second` of what `first` makes of each number below `count`, in order; with `ahead`, `first` works on
/// the next number meanwhile, on a thread of its own. The first error of `second` ends it.
fn one_by_one<A: Send, B>(
    count: usize,
    ahead: bool,
    first: impl Fn(usize) -> Result<A> + Sync,
    mut second: impl FnMut(usize, Result<A>) -> Result<B>,
) -> Result<Vec<B>> {
    let first = &first;
    thread::scope(|scope| {
        let mut next: Option<ScopedJoinHandle<'_, Result<A>>> = None;
        let mut made = Vec::with_capacity(count);
        for number in 0..count {
            let input = match next.take() {
                Some(handle) => handle.join().unwrap_or_else(|panic| resume_unwind(panic)),
                None => first(number),
            };
            if ahead && input.is_ok() && number + 1 < count {
                next = Some(scope.spawn(move || first(number + 1)));
            }
            made.push(second(number, input)?);
        }
        Ok(made)
    })
}

/// The parameters that the library calls `identifier`.
fn open(identifier: &str) -> Result<Arc<Parameters>> {
    let path = parameter_cache_params_path(identifier);
    require(
        identifier,
        &path,
        &parameter_cache_verifying_key_path(identifier),
    )?;
    Parameters::open(&path)
}

/// Fails as the library does if a file is missing. Without the verifying key that would be found out when
/// the proof is made, hours later.
fn require(identifier: &str, parameters: &Path, key: &Path) -> Result<()> {
    for (what, path) in [("parameters", parameters), ("verifying key", key)] {
        ensure!(
            path.exists(),
            "No cached {what} found for {identifier} [failure finding {}]",
            path.display()
        );
    }
    Ok(())
}

/// Checks a parameter file as the library does: against its published digest, once per process, if
/// the library's setting `verify_production_params` is on.
fn check_digest(path: &Path) -> Result<()> {
    static CHECKED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    if !SETTINGS.verify_production_params {
        return Ok(());
    }
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let checked = checked.get_or_insert_default();
    if !checked.contains(path) {
        let path = path.to_owned();
        read_cached_params(&path)?;
        checked.insert(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn partitions_come_out_in_order_with_and_without_work_ahead() {
        for ahead in [false, true] {
            let squares = one_by_one(5, ahead, |n| Ok(n * n), |n, square| Ok((n, square?)));
            assert_eq!(squares.unwrap(), [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]);
        }
    }

    #[test]
    fn the_next_partition_is_synthesised_while_one_is_proven() {
        let (sender, receiver) = channel();
        let first = |n| Ok(sender.send(n)?);
        // The first one waits for both to have been started.
        let started = one_by_one(2, true, first, |n, _| {
            let wait = || receiver.recv_timeout(Duration::from_secs(60));
            match n {
                0 => Ok(vec![wait()?, wait()?]),
                _ => Ok(vec![]),
            }
        });
        assert_eq!(started.unwrap(), [vec![0, 1], vec![]]);
    }

    #[test]
    fn an_error_ends_the_partitions() {
        for ahead in [false, true] {
            let failing = |n| match n {
                2 => Err(anyhow!("partition {n}")),
                _ => Ok(n),
            };
            let outcome = one_by_one(5, ahead, failing, |_, n| n);
            assert_eq!(outcome.unwrap_err().to_string(), "partition 2");
            let outcome = one_by_one(5, ahead, Ok, |n, _| -> Result<()> {
                Err(anyhow!("proof {n}"))
            });
            assert_eq!(outcome.unwrap_err().to_string(), "proof 0");
        }
    }

    #[test]
    fn parameters_that_are_missing_are_named_as_the_library_names_them() {
        let error = open("no-such-set").map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with("No cached parameters found for no-such-set [failure finding /"),
            "{error}"
        );
        assert!(error.ends_with("-no-such-set.params]"), "{error}");
    }

    /// It was missed when the proof was made, hours later.
    #[test]
    fn a_verifying_key_that_is_missing_is_told_before_anything_is_proven() {
        let dir = tempfile::tempdir().unwrap();
        let [parameters, key] = ["set.params", "set.vk"].map(|name| dir.path().join(name));
        fs::write(&parameters, "").unwrap();
        let error = require("set", &parameters, &key).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "No cached verifying key found for set [failure finding {}]",
                key.display()
            )
        );
        fs::write(&key, "").unwrap();
        require("set", &parameters, &key).unwrap();
    }
}
