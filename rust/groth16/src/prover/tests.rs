//! Proofs held against those of `bellperson`: with the same blinding they have the same bytes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bellperson::groth16::{
    create_proof, generate_random_parameters, prepare_verifying_key, verify_proof,
    Parameters as LibraryParameters,
};
use bellperson::{ConstraintSystem, SynthesisError};
use tempfile::TempDir;

use super::*;
use crate::testing::{rng, scalars};

/// Bits and a chain of products: variables that are zero, one and anything; some only in A, some only
/// in B, some in neither; coefficients of zero.
#[derive(Clone)]
struct Chain {
    steps: usize,
    start: Option<Scalar>,
}

impl Chain {
    fn new(steps: usize) -> Self {
        Self {
            steps,
            start: Some(scalars(11, 1)[0]),
        }
    }

    fn blank(steps: usize) -> Self {
        Self { steps, start: None }
    }

    /// The public inputs: where the chain starts, how it ends.
    fn inputs(&self) -> [Scalar; 2] {
        let start = self.start.unwrap();
        let step = |value: Scalar, number| value.square() + Scalar::from(number as u64 % 3);
        [start, (0..self.steps).fold(start, step)]
    }
}

impl Circuit<Scalar> for Chain {
    fn synthesize<CS: ConstraintSystem<Scalar>>(self, cs: &mut CS) -> Result<(), SynthesisError> {
        let missing = SynthesisError::AssignmentMissing;
        let inputs = self.start.is_some().then(|| self.inputs());
        let [start, end] = [0, 1].map(|place| inputs.map(|inputs| inputs[place]));
        let start = cs.alloc_input(|| "start", || start.ok_or(missing))?;
        let mut value = self.start;
        let mut variable = start;
        for number in 0..self.steps {
            let missing = || SynthesisError::AssignmentMissing;
            let bit = Scalar::from(number as u64 % 2);
            let bit_variable = cs.alloc(|| "bit", || Ok(bit))?;
            cs.enforce(
                || "bit is 0 or 1",
                |terms| terms + CS::one() - bit_variable + (Scalar::ZERO, variable),
                |terms| terms + bit_variable,
                |terms| terms,
            );
            let added = Scalar::from(number as u64 % 3);
            value = value.map(|value| value.square() + added);
            let next = cs.alloc(|| "next", || value.ok_or_else(missing))?;
            cs.enforce(
                || "square",
                |terms| terms + variable,
                |terms| terms + variable,
                |terms| terms + next - (added, CS::one()),
            );
            variable = next;
        }
        let end = cs.alloc_input(|| "end", || end.ok_or(SynthesisError::AssignmentMissing))?;
        cs.enforce(
            || "the end is public",
            |terms| terms + variable,
            |terms| terms + CS::one(),
            |terms| terms + end,
        );
        Ok(())
    }
}

/// Parameters of a chain, by the library.
struct Setup {
    library: LibraryParameters<Bls12>,
    path: PathBuf,
    _dir: TempDir,
}

fn setup(steps: usize) -> Setup {
    let library = generate_random_parameters(Chain::blank(steps), &mut rng(12)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chain.params");
    library.write(File::create(&path).unwrap()).unwrap();
    Setup {
        library,
        path,
        _dir: dir,
    }
}

fn synthesised(circuit: Chain, parameters: &Parameters) -> Result<Assignment> {
    synthesise(circuit, parameters, &|| false)
}

fn bytes(proof: &Proof<Bls12>) -> Vec<u8> {
    let mut bytes = Vec::new();
    proof.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn proofs_are_those_of_the_library() {
    for steps in [1, 5, 700] {
        let setup = setup(steps);
        let parameters = Parameters::open(&setup.path).unwrap();
        let [r, s] = [0, 1].map(|place| scalars(steps as u64, 2)[place]);
        let expected = create_proof(Chain::new(steps), &setup.library, r, s).unwrap();
        let blinding = Blinding { r, s };
        crate::testing::has_ifma();
        for arithmetic in [Arithmetic::Portable, Arithmetic::best()] {
            let mut reports = Vec::new();
            let proof = prove_blinded(
                synthesised(Chain::new(steps), &parameters).unwrap(),
                &parameters,
                &blinding,
                arithmetic,
                &mut |done, total| {
                    reports.push((done, total));
                    Ok(())
                },
            );
            let proof = bytes(&proof.unwrap());
            assert_eq!(proof, bytes(&expected), "{steps} steps with {arithmetic}");
            assert!(reports.is_sorted());
            let (done, total) = *reports.last().unwrap();
            assert_eq!(done, total);
        }
    }
}

#[test]
fn a_proof_with_random_blinding_verifies_and_differs_from_another() {
    let setup = setup(5);
    let parameters = Parameters::open(&setup.path).unwrap();
    let chain = Chain::new(5);
    let prove = || {
        prove(
            synthesised(chain.clone(), &parameters).unwrap(),
            &parameters,
            Arithmetic::best(),
            &mut |_, _| Ok(()),
        )
        .unwrap()
    };
    let (first, second) = (prove(), prove());
    let key = prepare_verifying_key(&setup.library.vk);
    assert!(verify_proof(&key, &first, &chain.inputs()).unwrap());
    assert!(verify_proof(&key, &second, &chain.inputs()).unwrap());
    assert_ne!(bytes(&first), bytes(&second));
    let [start, end] = chain.inputs();
    assert!(!verify_proof(&key, &first, &[start, end + Scalar::ONE]).unwrap());
}

#[test]
fn parameters_of_another_circuit_are_refused() {
    let setup = setup(5);
    let parameters = Parameters::open(&setup.path).unwrap();
    let error = synthesised(Chain::new(6), &parameters).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("chain.params are parameters of another circuit"),
        "{error}"
    );
    assert!(error.contains("(3, 10, 16,"), "{error}");
}

#[test]
fn parameters_that_were_replaced_are_used_without_a_restart() {
    let (setup, right) = (setup(5), setup(6));
    let parameters = Parameters::open(&setup.path).unwrap();
    assert!(Arc::ptr_eq(
        &parameters,
        &Parameters::open(&setup.path).unwrap()
    ));
    assert!(synthesised(Chain::new(6), &parameters).is_err());
    std::fs::rename(&right.path, &setup.path).unwrap();
    let parameters = Parameters::open(&setup.path).unwrap();
    synthesised(Chain::new(6), &parameters).unwrap();
}

#[test]
fn a_proof_is_cancelled_between_its_parts() {
    let setup = setup(5);
    let parameters = Parameters::open(&setup.path).unwrap();
    let mut left = 3;
    let error = prove(
        synthesised(Chain::new(5), &parameters).unwrap(),
        &parameters,
        Arithmetic::best(),
        &mut |_, _| {
            left -= 1;
            ensure!(left > 0, "cancelled");
            Ok(())
        },
    );
    assert_eq!(error.unwrap_err().to_string(), "cancelled");
    assert_eq!(left, 0);
}

#[test]
fn a_synthesis_is_stopped_by_its_flag() {
    let setup = setup(5);
    let parameters = Parameters::open(&setup.path).unwrap();
    let error = synthesise(Chain::new(5), &parameters, &|| true).unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
}

#[test]
fn a_witness_that_is_wrong_is_told_from_other_errors() {
    let setup = setup(5);
    let parameters = Parameters::open(&setup.path).unwrap();
    let mut assignment = synthesised(Chain::new(5), &parameters).unwrap();
    assignment.c[3] += Scalar::ONE;
    let error = prove(assignment, &parameters, Arithmetic::best(), &mut |_, _| {
        Ok(())
    });
    assert!(error.unwrap_err().is::<crate::Unsatisfied>());
}

#[test]
fn a_parameter_file_that_is_cut_short_is_named() {
    let setup = setup(5);
    let file = File::options().write(true).open(&setup.path).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size - 1).unwrap();
    let error = format!("{:#}", Parameters::open(&setup.path).map(drop).unwrap_err());
    assert!(error.contains("chain.params"), "{error}");
    assert!(error.contains("B in G2 query: ends at byte"), "{error}");
}
