//! How a running stage is watched and stopped from outside.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, Result};

/// Shortest time between two progress reports of one stage.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

static NEVER_CANCELLED: AtomicBool = AtomicBool::new(false);

/// A stage ended because its cancel flag was set.
#[derive(Debug)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Receives `(done, total)`; an error it returns ends the stage with that error.
pub type Report<'a> = dyn FnMut(u64, u64) -> Result<()> + Send + 'a;

/// The cancel flag and the progress report of one stage run.
pub struct Control<'a> {
    cancel: &'a AtomicBool,
    report: Option<Box<Report<'a>>>,
    last_report: Instant,
}

impl<'a> Control<'a> {
    /// A control that stops the stage once `cancel` is true and tells `report` how far it is.
    pub fn new(cancel: &'a AtomicBool, report: Box<Report<'a>>) -> Self {
        Control {
            cancel,
            report: Some(report),
            last_report: Instant::now(),
        }
    }

    /// A control that never cancels and reports nothing.
    pub fn none() -> Control<'static> {
        Control {
            cancel: &NEVER_CANCELLED,
            report: None,
            last_report: Instant::now(),
        }
    }

    /// Fails with [`Cancelled`] once the flag is set.
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            bail!(Cancelled);
        }
        Ok(())
    }

    /// The flag itself, for another thread of the stage.
    pub fn flag(&self) -> &'a AtomicBool {
        self.cancel
    }

    /// Checks the flag and, at most ten times a second, reports.
    pub fn step(&mut self, done: u64, total: u64) -> Result<()> {
        self.check()?;
        if self.last_report.elapsed() < REPORT_INTERVAL {
            return Ok(());
        }
        self.report(done, total)
    }

    /// Checks the flag and reports whatever the time: for a wait that a signal has interrupted, which
    /// may last and must not outlive what the signal asks for.
    pub fn step_now(&mut self, done: u64, total: u64) -> Result<()> {
        self.check()?;
        self.report(done, total)
    }

    /// Reports `(total, total)`: the stage is complete.
    pub fn finish(&mut self, total: u64) -> Result<()> {
        self.report(total, total)
    }

    fn report(&mut self, done: u64, total: u64) -> Result<()> {
        if let Some(report) = &mut self.report {
            report(done, total)?;
        }
        self.last_report = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_flag_stops_the_next_step() {
        let flag = AtomicBool::new(false);
        let mut control = Control::new(&flag, Box::new(|_, _| Ok(())));
        control.step(1, 2).unwrap();
        flag.store(true, Ordering::Relaxed);
        let error = control.step(2, 2).unwrap_err();
        assert!(error.is::<Cancelled>());
    }

    #[test]
    fn reports_are_throttled_but_the_last_one_is_kept() {
        let mut seen = Vec::new();
        let mut control = Control::new(
            &NEVER_CANCELLED,
            Box::new(|done, total| {
                seen.push((done, total));
                Ok(())
            }),
        );
        // A last report in the future makes every step too early, however slow the machine is.
        control.last_report = Instant::now() + Duration::from_secs(3600);
        for done in 0..1000 {
            control.step(done, 1000).unwrap();
        }
        control.finish(1000).unwrap();
        drop(control);
        assert_eq!(seen, [(1000, 1000)]);
    }
}
