//! A checksum of bytes on their way from one file into another.

use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use xxhash_rust::xxh3::Xxh3;

/// XXH3 of 128 bits, which takes bytes as fast as memory gives them.
#[pyclass(frozen, module = "damocles_worker._native")]
struct Checksum {
    state: Mutex<Xxh3>,
}

#[pymethods]
impl Checksum {
    #[new]
    fn new() -> Self {
        Checksum {
            state: Mutex::new(Xxh3::new()),
        }
    }

    /// Goes on with the bytes of a contiguous buffer.
    fn update(&self, py: Python<'_>, data: PyBuffer<u8>) -> PyResult<()> {
        if !data.is_c_contiguous() {
            return Err(PyBufferError::new_err("expected a contiguous buffer"));
        }
        if data.len_bytes() == 0 {
            return Ok(());
        }
        // SAFETY: the buffer stays where it is, with its memory, until `data` is dropped. Whoever writes there
        // meanwhile gets the checksum of a mixture, as with hashlib.
        let bytes = unsafe { slice::from_raw_parts(data.buf_ptr().cast::<u8>(), data.len_bytes()) };
        py.detach(|| self.locked().update(bytes));
        Ok(())
    }

    /// As `xxh128sum` prints it: 32 digits.
    fn hexdigest(&self) -> String {
        format!("{:032x}", self.locked().digest128())
    }
}

impl Checksum {
    fn locked(&self) -> MutexGuard<'_, Xxh3> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Checksum>()
}
