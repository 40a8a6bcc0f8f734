//! The last look at a proof: none that doesn't hold leaves the process.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Result};
use groth16::{Arithmetic, Unsatisfied};

use super::CHOICE;

/// Who made a proof, and what with.
pub struct Maker {
    /// This program's prover with its arithmetic; without, the proofs library.
    pub arithmetic: Option<Arithmetic>,
    pub parameters: PathBuf,
}

impl Maker {
    /// Who to try instead.
    fn other(&self) -> &'static str {
        match self.arithmetic {
            Some(_) => "crate would compute with the proofs library",
            None => "groth16 would compute with this program's prover",
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arithmetic {
            Some(arithmetic) => arithmetic.fmt(f),
            None => f.write_str("the proofs library"),
        }
    }
}

/// What `prove` makes, if it `decodes` as a proof and `verify` says that it holds. One that doesn't, or
/// whose circuit isn't satisfied, is made once more; the second one is an error that names what may be
/// faulty. Other errors are passed on.
pub fn verified(
    what: &str,
    maker: &Maker,
    mut prove: impl FnMut() -> Result<Vec<u8>>,
    decodes: impl Fn(&[u8]) -> bool,
    verify: impl Fn(&[u8]) -> Result<bool>,
) -> Result<Vec<u8>> {
    let mut why = String::new();
    for _ in 0..2 {
        why = match prove() {
            // The library's verifiers have an error for bytes that are no points of the curve.
            Ok(proof) if !decodes(&proof) => "its bytes are no proof".to_owned(),
            Ok(proof) if verify(&proof)? => return Ok(proof),
            Ok(_) => "it doesn't verify".to_owned(),
            Err(error) if error.is::<Unsatisfied>() => error.to_string(),
            Err(error) => return Err(error),
        };
        log::error!("{what}: the proof doesn't hold: {why}");
    }
    bail!(
        "{what}: two proofs in a row don't hold ({why}), computed with {maker} on {} from {}: faulty \
         memory, a faulty CPU or a rotten parameter file are likely; {CHOICE}={}",
        cpu_model(Path::new("/proc/cpuinfo")),
        maker.parameters.display(),
        maker.other()
    )
}

/// The CPU's model as the system names it.
fn cpu_model(cpuinfo: &Path) -> String {
    let text = fs::read_to_string(cpuinfo).unwrap_or_default();
    let model = text
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'));
    model.map_or_else(
        || "a CPU of unknown model".to_owned(),
        |(_, model)| model.trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::anyhow;

    use super::*;

    fn portable() -> Maker {
        Maker {
            arithmetic: Some(Arithmetic::Portable),
            parameters: PathBuf::from("/p/v28.params"),
        }
    }

    /// The outcome as text, and how many proofs it took. 0xff is a proof that doesn't decode.
    fn outcome(
        maker: &Maker,
        prove: impl Fn(u8) -> Result<Vec<u8>>,
        verify: impl Fn(&[u8]) -> Result<bool>,
    ) -> (String, u8) {
        let made = Cell::new(0);
        let prove = || {
            made.set(made.get() + 1);
            prove(made.get())
        };
        let decodes = |proof: &[u8]| proof != [0xff];
        let outcome = verified("C2 of sector 7", maker, prove, decodes, verify);
        let text = outcome.map_or_else(|error| error.to_string(), |proof| format!("{proof:?}"));
        (text, made.get())
    }

    #[test]
    fn a_proof_that_does_not_hold_is_made_once_more() {
        let verify = |proof: &[u8]| Ok(proof == [2]);
        let found = outcome(&portable(), |n| Ok(vec![n]), verify);
        assert_eq!(found, ("[2]".to_owned(), 2));
        let (error, made) = outcome(&portable(), |n| Ok(vec![n]), |_| Ok(false));
        assert_eq!(made, 2);
        for part in [
            "C2 of sector 7: two proofs in a row don't hold (it doesn't verify), computed with \
             portable arithmetic on ",
            "faulty memory, a faulty CPU or a rotten parameter file",
            " from /p/v28.params: ",
            "DAMOCLES_C2_ENGINE=crate",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_points_are_a_proof_that_does_not_hold() {
        // As the library's verifiers do.
        let verify = |proof: &[u8]| match proof {
            [0xff] => Err(anyhow!("not on curve")),
            _ => Ok(true),
        };
        let garbage_once = |n| Ok(vec![if n == 1 { 0xff } else { 7 }]);
        let found = outcome(&portable(), garbage_once, verify);
        assert_eq!(found, ("[7]".to_owned(), 2));
        let (error, made) = outcome(&portable(), |_| Ok(vec![0xff]), verify);
        assert_eq!(made, 2);
        assert!(
            error.contains("(its bytes are no proof), computed with portable"),
            "{error}"
        );
    }

    #[test]
    fn constraints_that_do_not_hold_are_computed_once_more() {
        let prove = |n| match n {
            1 => Err(Unsatisfied.into()),
            _ => Ok(vec![n]),
        };
        let found = outcome(&portable(), prove, |_| Ok(true));
        assert_eq!(found, ("[2]".to_owned(), 2));
        let library = Maker {
            arithmetic: None,
            ..portable()
        };
        let (error, made) = outcome(&library, |_| Err(Unsatisfied.into()), |_| Ok(true));
        assert_eq!(made, 2);
        for part in [
            "constraints don't hold",
            "with the proofs library on",
            "DAMOCLES_C2_ENGINE=groth16",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn other_errors_are_passed_on_at_once() {
        let found = outcome(&portable(), |_| Err(anyhow!("cancelled")), |_| Ok(true));
        assert_eq!(found, ("cancelled".to_owned(), 1));
        let found = outcome(&portable(), |_| Ok(vec![1]), |_| Err(anyhow!("no key")));
        assert_eq!(found, ("no key".to_owned(), 1));
    }
}
