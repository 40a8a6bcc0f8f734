//! Errors as one line, and panics as errors.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use anyhow::{anyhow, Result};

/// The text of an error: its causes from the outermost in, joined by `": "`, on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    flatten(&format!("{error:#}"))
}

/// Runs `stage`; a panic in it, on this thread or on a pool thread it waits for, becomes an error
/// whose text starts with `panic: `.
///
/// The process-wide panic hook is set once and never swapped, so two stages that panic at the same
/// time can't take each other's message or end the process.
pub fn guarded<T>(stage: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| panic::set_hook(Box::new(log_panic)));
    // What a stage shares with the outside is files and the library's own locks; a half-written
    // file is written again by the next run, and a poisoned lock fails loudly.
    panic::catch_unwind(AssertUnwindSafe(stage))
        .unwrap_or_else(|payload| Err(anyhow!("panic: {}", flatten(text(payload.as_ref())))))
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    eprintln!("panic at {place}: {}", flatten(text(info.payload())));
}

fn text(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<String>() {
        Some(owned) => owned,
        None => payload
            .downcast_ref::<&str>()
            .unwrap_or(&"without a message"),
    }
}

fn flatten(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_panic_becomes_an_error_on_one_line() {
        let error = guarded(|| -> Result<()> {
            assert_eq!(1, 2, "layers\nof the sector");
            Ok(())
        })
        .unwrap_err();
        let text = one_line(&error);
        assert!(text.starts_with("panic: assertion"), "{text}");
        assert!(text.contains("layers of the sector"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn a_panic_on_a_pool_thread_becomes_an_error() {
        let error = guarded(|| -> Result<()> {
            (0..64)
                .into_par_iter()
                .for_each(|i| assert!(i != 63, "node {i}"));
            Ok(())
        })
        .unwrap_err();
        assert_eq!(one_line(&error), "panic: node 63");
    }

    #[test]
    fn causes_are_joined_outermost_first() {
        let error = Err::<(), _>(anyhow!("no space"))
            .context("write layer 3")
            .unwrap_err();
        assert_eq!(one_line(&error), "write layer 3: no space");
    }
}
