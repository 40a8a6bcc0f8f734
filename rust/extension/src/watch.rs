//! Running a stage without the GIL: its cancel flag, its progress callback, its errors.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use proofs::control::Cancelled as StageCancelled;
use proofs::failure::one_line;
use proofs::Control;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    _native,
    StageError,
    PyException,
    "A stage failed; a panic of the proofs library too (its message starts with \"panic: \")."
);
create_exception!(
    _native,
    Cancelled,
    PyException,
    "A stage ended because its Cancel was set."
);

/// A flag that ends the stages it was given to; it can be set from any thread and stays set.
#[pyclass(frozen, module = "damocles_worker._native")]
pub struct Cancel {
    flag: AtomicBool,
}

#[pymethods]
impl Cancel {
    #[new]
    fn new() -> Self {
        Cancel {
            flag: AtomicBool::new(false),
        }
    }

    /// Sets the flag. A running stage ends with Cancelled at the next place where it can.
    fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    #[getter]
    fn cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// How a Python caller watches a stage: its optional callback and flag.
pub struct Watch {
    pub progress: Option<Py<PyAny>>,
    pub cancel: Option<Py<Cancel>>,
}

impl Watch {
    /// For calls that take neither.
    pub fn none() -> Self {
        Watch {
            progress: None,
            cancel: None,
        }
    }

    /// Runs `stage` with the GIL released.
    ///
    /// At each report the GIL is taken, pending signals are handled (so Ctrl-C ends a stage on the
    /// main thread) and the callback is called; what either raises ends the stage and is raised.
    pub fn run<T: Send>(
        &self,
        py: Python<'_>,
        stage: impl FnOnce(&mut Control<'_>) -> anyhow::Result<T> + Send,
    ) -> PyResult<T> {
        let unset = AtomicBool::new(false);
        let flag = self
            .cancel
            .as_ref()
            .map_or(&unset, |cancel| &cancel.get().flag);
        let report = |done, total| {
            Python::try_attach(|py| -> PyResult<()> {
                py.check_signals()?;
                if let Some(progress) = &self.progress {
                    progress.call1(py, (done, total))?;
                }
                Ok(())
            })
            // No interpreter to report to: it is shutting down, and the stage with it.
            .ok_or_else(|| anyhow!(StageCancelled))?
            .map_err(anyhow::Error::new)
        };
        py.detach(|| stage(&mut Control::new(flag, Box::new(report))))
            .map_err(raise)
    }
}

/// The Python exception for a stage's error.
fn raise(error: anyhow::Error) -> PyErr {
    if error.is::<StageCancelled>() {
        return Cancelled::new_err(one_line(&error));
    }
    match error.downcast::<PyErr>() {
        Ok(raised) => raised,
        Err(error) => StageError::new_err(one_line(&error)),
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("StageError", m.py().get_type::<StageError>())?;
    m.add("Cancelled", m.py().get_type::<Cancelled>())?;
    m.add_class::<Cancel>()
}
