//! llama.cpp's log, captured instead of printed.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};

use super::sys;
use crate::Error;

thread_local! {
    /// The error lines since [`forget`]. llama.cpp logs the failure of an operation on the thread that called it.
    static ERRORS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes llama.cpp and ggml log to [`record`] from now on.
pub(super) fn capture() {
    // SAFETY: `record` has the expected signature, never unwinds and needs no user data.
    unsafe { sys::llama_log_set(Some(record), std::ptr::null_mut()) };
}

/// Forgets earlier errors, so that [`error`] reports only those of the operation that now begins.
pub(super) fn forget() {
    ERRORS.with_borrow_mut(String::clear);
}

/// The error of a failed `operation`, with llama.cpp's log as its reason.
pub(super) fn error(operation: impl Into<String>) -> Error {
    let reason = ERRORS.with_borrow_mut(|errors| reason(&std::mem::take(errors)));
    Error::Llama {
        operation: operation.into(),
        reason,
    }
}

/// The first line of the log, which names the cause, without the name of the C++ function at its beginning.
fn reason(log: &str) -> String {
    let line = log
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    match line.split_once(": ") {
        Some((function, rest)) if !function.contains(' ') => rest.trim().to_owned(),
        _ => line.to_owned(),
    }
}

/// llama.cpp's log callback.
///
/// # Safety
///
/// `text` must be null or a NUL-terminated string.
unsafe extern "C" fn record(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level != sys::GGML_LOG_LEVEL_ERROR || text.is_null() {
        return;
    }
    // SAFETY: not null, and NUL-terminated by this function's contract.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // A thread that is ending has lost its log, and a callback must not panic.
    let _ = ERRORS.try_with(|errors| {
        if let Ok(mut errors) = errors.try_borrow_mut() {
            errors.push_str(&text);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_first_line_without_the_function_name() {
        let log = "llama_model_load: error loading model: no key llama.x\nload_impl: failed to load model\n";
        assert_eq!(reason(log), "error loading model: no key llama.x");
        assert_eq!(
            reason("out of memory: 12 bytes\n\n"),
            "out of memory: 12 bytes"
        );
        assert_eq!(reason(""), "");
    }

    #[test]
    fn an_error_takes_what_was_recorded_since_forget() {
        // SAFETY: the texts are NUL-terminated literals.
        unsafe {
            record(
                sys::GGML_LOG_LEVEL_ERROR,
                c"old: gone\n".as_ptr(),
                std::ptr::null_mut(),
            );
            forget();
            record(
                sys::GGML_LOG_LEVEL_INFO,
                c"load: 12 tensors\n".as_ptr(),
                std::ptr::null_mut(),
            );
            record(
                sys::GGML_LOG_LEVEL_ERROR,
                c"load: no tensors\n".as_ptr(),
                std::ptr::null_mut(),
            );
        }
        assert_eq!(
            error("load x").to_string(),
            "llama.cpp failed to load x: no tensors"
        );
        assert_eq!(error("load x").to_string(), "llama.cpp failed to load x");
    }
}
