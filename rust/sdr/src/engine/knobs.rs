//! What the environment says about how sectors share the cores, and where their memory is.

use std::env;
use std::ffi::OsString;

/// The proofs crate's switch for its multicore path.
const MULTICORE: &str = "FIL_PROOFS_USE_MULTICORE_SDR";
/// The proofs crate's number of threads that fetch parents for one sector.
const PRODUCERS: &str = "FIL_PROOFS_MULTICORE_SDR_PRODUCERS";
/// The switch of the proofs library's fork: its huge page files were taken whatever their NUMA node.
const DISABLE_NUMA: &str = "FIL_PROOFS_DISABLE_NUMA";
/// Sectors that this process is given at once, as the daemon tells its processors.
const CONCURRENT: &str = "DAMOCLES_PC1_CONCURRENT";

/// How sectors are to share the cores.
#[derive(Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Whether every sector is to be hashed from its start: on a core of its own while there are any.
    multicore: bool,
    /// Whether label memory is taken of any NUMA node.
    pub any_node: bool,
    /// Sectors that come at once; none if nobody said.
    concurrent: Option<usize>,
}

impl Knobs {
    /// The environment's; `say` is told what has no effect or can't be read.
    pub fn from_env(say: &mut dyn FnMut(String)) -> Self {
        Self::read(&|name| env::var_os(name), say)
    }

    fn read(variable: &dyn Fn(&str) -> Option<OsString>, say: &mut dyn FnMut(String)) -> Self {
        if variable(PRODUCERS).is_some() {
            say(format!(
                "{PRODUCERS} has no effect: one thread per core needs no producers"
            ));
        }
        let text = |name| variable(name).map(|value| value.to_string_lossy().trim().to_lowercase());
        let mut switch = |name| {
            let value = text(name).unwrap_or_default();
            let on = ["1", "true", "on", "yes"].contains(&value.as_str());
            if !on && !["", "0", "false", "off", "no"].contains(&value.as_str()) {
                say(format!(
                    "{name}={value}: expected 1 or 0 (true, on, yes or false, off, no); it is passed over"
                ));
            }
            on
        };
        let multicore = switch(MULTICORE);
        let any_node = switch(DISABLE_NUMA);
        if any_node {
            say(format!(
                "{DISABLE_NUMA} is on: label memory and huge page files of any NUMA node are taken, as they come; \
                 PC1 is slower with memory of another node than its core's"
            ));
        }
        let concurrent = text(CONCURRENT).and_then(|value| {
            let number = value.parse().ok().filter(|number| *number > 0);
            if number.is_none() {
                say(format!(
                    "{CONCURRENT}={value}: expected a number from 1 on; it is passed over"
                ));
            }
            number
        });
        Knobs {
            multicore,
            any_node,
            concurrent,
        }
    }

    /// Lanes per core, given the number that a measurement found `worthwhile` and the most that the
    /// kernel takes.
    ///
    /// Sectors get a core each while there are any, in either case. Beyond that more than the worthwhile
    /// lanes make every sector slower and none sooner, so further sectors wait for a place; with the
    /// multicore switch all that come at once are hashed at once.
    pub fn lanes(
        &self,
        cores: usize,
        worthwhile: usize,
        most: usize,
        say: &mut dyn FnMut(String),
    ) -> usize {
        let Some(concurrent) = self.concurrent else {
            return worthwhile;
        };
        let lanes = if self.multicore {
            concurrent.div_ceil(cores).min(most)
        } else {
            worthwhile
        };
        if concurrent > cores * lanes {
            let remedy = if lanes < most {
                format!(
                    "give it more cores, or fewer tasks, or hash all at once with {MULTICORE}=1"
                )
            } else {
                "give it more cores or fewer tasks".to_owned()
            };
            say(format!(
                "PC1 is given {concurrent} sectors at once, and hashes {} ({cores} cores, {lanes} on each): \
                 the others wait; {remedy}",
                cores * lanes
            ));
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(variables: &[(&str, &str)]) -> (Knobs, Vec<String>) {
        let mut said = Vec::new();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(found.1))
        };
        let knobs = Knobs::read(&variable, &mut |text| said.push(text));
        (knobs, said)
    }

    fn lanes(variables: &[(&str, &str)], cores: usize) -> (usize, Vec<String>) {
        let mut said = Vec::new();
        let lanes = knobs(variables)
            .0
            .lanes(cores, 2, 16, &mut |text| said.push(text));
        (lanes, said)
    }

    #[test]
    fn lanes_are_as_measured_unless_all_tasks_are_to_run() {
        assert_eq!(lanes(&[], 4), (2, vec![]));
        assert_eq!(lanes(&[(CONCURRENT, "8")], 4), (2, vec![]));
        let (found, said) = lanes(&[(CONCURRENT, "9")], 4);
        assert_eq!(found, 2);
        assert!(
            said[0].contains("9 sectors at once, and hashes 8 (4 cores, 2 on each)")
                && said[0].contains("FIL_PROOFS_USE_MULTICORE_SDR=1"),
            "{said:?}"
        );

        let multicore = (MULTICORE, "True");
        assert_eq!(lanes(&[multicore], 4), (2, vec![]));
        for (concurrent, expected) in [("1", 1), ("4", 1), ("5", 2), ("12", 3), ("64", 16)] {
            let found = lanes(&[multicore, (CONCURRENT, concurrent)], 4);
            assert_eq!(found, (expected, vec![]), "{concurrent}");
        }
        let (found, said) = lanes(&[multicore, (CONCURRENT, "65")], 4);
        assert_eq!(found, 16);
        assert!(said[0].ends_with("give it more cores or fewer tasks"));
    }

    #[test]
    fn settings_that_do_nothing_are_said() {
        assert!(knobs(&[]).1.is_empty());
        let (_, said) = knobs(&[(PRODUCERS, "3")]);
        assert!(
            said.len() == 1 && said[0].starts_with(PRODUCERS),
            "{said:?}"
        );
        for wrong in ["0", "-1", "many", ""] {
            let (knobs, said) = knobs(&[(CONCURRENT, wrong)]);
            assert_eq!(knobs.concurrent, None);
            assert!(said[0].contains("expected a number from 1 on"), "{said:?}");
        }
    }

    #[test]
    fn switches_are_read_as_the_proofs_crate_reads_them() {
        for on in ["1", "TRUE", "on", " yes "] {
            let (knobs, said) = knobs(&[(DISABLE_NUMA, on)]);
            assert!(knobs.any_node && said.len() == 1, "{said:?}");
            assert!(said[0].contains("of any NUMA node are taken"), "{said:?}");
        }
        for off in ["", "0", "False", "off", "no"] {
            let (knobs, said) = knobs(&[(DISABLE_NUMA, off), (MULTICORE, off)]);
            assert!(!knobs.any_node && !knobs.multicore && said.is_empty());
        }
        let (unclear, said) = knobs(&[(DISABLE_NUMA, "2"), (MULTICORE, "maybe")]);
        assert!(!unclear.any_node && !unclear.multicore);
        assert!(
            said[0].starts_with("FIL_PROOFS_USE_MULTICORE_SDR=maybe: expected 1 or 0")
                && said[1].starts_with("FIL_PROOFS_DISABLE_NUMA=2: expected 1 or 0"),
            "{said:?}"
        );
    }
}
