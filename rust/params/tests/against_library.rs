//! The generator beside the proving library's own: same trapdoor, same bytes; and the library proves
//! and verifies with the files.

use std::fs::File;
use std::io::Read;

use bellperson::groth16::{
    create_proof, generate_parameters, prepare_verifying_key, verify_proof, Parameters,
};
use bellperson::{Circuit, ConstraintSystem, SynthesisError};
use blstrs::{Bls12, G1Projective, G2Projective, Scalar};
use ff::Field;
use group::Group;
use params::{generate, Monitor, Trapdoor};

/// `x` squared `steps` times gives the public `y`; some variables stand in `a` only, some in `b` only.
#[derive(Clone)]
struct Squarings {
    x: Option<Scalar>,
    steps: usize,
}

impl Squarings {
    fn result(&self) -> Scalar {
        (0..self.steps).fold(self.x.unwrap(), |value, step| {
            value.square() + Scalar::from(step as u64)
        })
    }
}

impl Circuit<Scalar> for Squarings {
    fn synthesize<CS: ConstraintSystem<Scalar>>(self, cs: &mut CS) -> Result<(), SynthesisError> {
        let missing = SynthesisError::AssignmentMissing;
        let mut value = self.x;
        let mut last = cs.alloc(|| "x", || value.ok_or(missing))?;
        for step in 0..self.steps {
            let added = Scalar::from(step as u64);
            value = value.map(|value| value.square() + added);
            let next = cs.alloc(|| "next", || value.ok_or(SynthesisError::AssignmentMissing))?;
            cs.enforce(
                || "next = last² + step",
                |lc| lc + last,
                |lc| lc + last,
                |lc| lc + next - (added, CS::one()),
            );
            last = next;
        }
        let result = cs.alloc_input(|| "y", || value.ok_or(SynthesisError::AssignmentMissing))?;
        cs.enforce(
            || "y = last",
            |lc| lc + (Scalar::from(3), last) - (Scalar::from(2), last),
            |lc| lc + CS::one(),
            |lc| lc + result,
        );
        Ok(())
    }
}

fn trapdoor() -> Trapdoor {
    Trapdoor {
        g1: G1Projective::generator() * Scalar::from(11),
        g2: G2Projective::generator() * Scalar::from(13),
        ..Trapdoor::public("test")
    }
}

fn ours(steps: usize) -> (Vec<u8>, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    let blank = || Squarings { x: None, steps };
    let generated = generate(&blank, &trapdoor(), &file, &Monitor::default()).unwrap();
    let bytes = read(&mut file);
    assert_eq!(bytes.len() as u64, generated.bytes);
    (bytes, generated.verifying_key)
}

fn read(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn librarys(steps: usize) -> (Vec<u8>, Vec<u8>) {
    let Trapdoor {
        g1,
        g2,
        alpha,
        beta,
        gamma,
        delta,
        tau,
    } = trapdoor();
    let blank = Squarings { x: None, steps };
    let parameters: Parameters<Bls12> =
        generate_parameters(blank, g1, g2, alpha, beta, gamma, delta, tau).unwrap();
    let (mut file, mut key) = (Vec::new(), Vec::new());
    parameters.write(&mut file).unwrap();
    parameters.vk.write(&mut key).unwrap();
    (file, key)
}

#[test]
fn a_tiny_circuit_gives_the_librarys_bytes() {
    assert!(ours(1) == librarys(1));
}

#[test]
fn a_circuit_of_several_batches_gives_the_librarys_bytes() {
    assert!(ours(5000) == librarys(5000));
}

#[test]
fn the_library_proves_and_verifies_with_the_file() {
    let (file, _) = ours(300);
    let parameters = Parameters::<Bls12>::read(&file[..], true).unwrap();
    let circuit = Squarings {
        x: Some(Scalar::from(42)),
        steps: 300,
    };
    let result = circuit.result();
    let proof = create_proof(circuit, &parameters, Scalar::from(5), Scalar::from(6)).unwrap();
    let key = prepare_verifying_key(&parameters.vk);
    assert!(verify_proof(&key, &proof, &[result]).unwrap());
    assert!(!verify_proof(&key, &proof, &[result + Scalar::ONE]).unwrap());
}

#[test]
fn a_variable_without_a_constraint_is_an_error() {
    struct Loose;
    impl Circuit<Scalar> for Loose {
        fn synthesize<CS: ConstraintSystem<Scalar>>(
            self,
            cs: &mut CS,
        ) -> Result<(), SynthesisError> {
            cs.alloc(|| "loose", || Err(SynthesisError::AssignmentMissing))?;
            Ok(())
        }
    }
    let file = tempfile::tempfile().unwrap();
    let error = generate(&|| Loose, &trapdoor(), &file, &Monitor::default()).unwrap_err();
    assert!(format!("{error:#}").contains("unconstrained"), "{error:#}");
}

#[test]
fn a_stopped_generation_ends_with_an_error() {
    let monitor = Monitor::default();
    monitor.stop();
    let file = tempfile::tempfile().unwrap();
    let blank = || Squarings { x: None, steps: 1 };
    let error = generate(&blank, &trapdoor(), &file, &monitor).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error:#}");
}
