//! llama.cpp's log, captured instead of printed.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_void};

use super::sys;
use crate::Error;

thread_local! {
    /// The error lines since [`forget`]. llama.cpp logs the failure of an operation on the thread that called it.
    static ERRORS: RefCell<String> = const { RefCell::new(String::new()) };
    /// The bytes of the buffers in host memory that llama.cpp has named since [`forget`].
    static HOST_BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Makes llama.cpp and ggml log to [`record`] from now on.
pub(super) fn capture() {
    // SAFETY: `record` has the expected signature, never unwinds and needs no user data.
    unsafe { sys::llama_log_set(Some(record), std::ptr::null_mut()) };
}

/// Forgets earlier errors and buffers, so that [`error`] and [`host_bytes`] report only those of the operation that now
/// begins.
pub(super) fn forget() {
    ERRORS.with_borrow_mut(String::clear);
    HOST_BYTES.set(0);
}

/// The bytes of the buffers in host memory that llama.cpp has made, or would make, since [`forget`]. It tells them in its
/// log alone. Weights that are mapped from their file are not among them.
pub(super) fn host_bytes() -> u64 {
    HOST_BYTES.get()
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
    if !matches!(level, sys::GGML_LOG_LEVEL_ERROR | sys::GGML_LOG_LEVEL_INFO) || text.is_null() {
        return;
    }
    // SAFETY: not null, and NUL-terminated by this function's contract.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // A thread that is ending has lost its log, and a callback must not panic.
    if level == sys::GGML_LOG_LEVEL_INFO {
        let bytes = buffer_bytes(&text).unwrap_or(0);
        let _ = HOST_BYTES.try_with(|total| total.set(total.get().saturating_add(bytes)));
        return;
    }
    let _ = ERRORS.try_with(|errors| {
        if let Ok(mut errors) = errors.try_borrow_mut() {
            errors.push_str(&text);
        }
    });
}

/// The size of the buffer in host memory that a line of the log tells, in bytes. The lines are
///
/// ```text
/// load_tensors:   CPU_REPACK model buffer size =    12.34 MiB
/// sched_reserve:        CPU compute buffer size =    12.34 MiB
/// llama_kv_cache: size =   12.34 MiB (  2048 cells,  30 layers,  1/1 seqs), K (f16): …
/// ```
///
/// where the last one is the sum of a cache's buffers.
fn buffer_bytes(line: &str) -> Option<u64> {
    let (before, size) = line.split_once("size = ")?;
    let (mebibytes, _) = size.split_once(" MiB")?;
    let (_, buffer) = before.split_once(": ")?;
    let buffer = buffer.trim();
    let is_mapped = buffer.starts_with("CPU_Mapped");
    let is_host = buffer.is_empty() || buffer.starts_with("CPU") && !is_mapped;
    let mebibytes: f64 = mebibytes.trim().parse().ok().filter(|_| is_host)?;
    Some((mebibytes * f64::from(1 << 20)) as u64)
}

/// Logs `line` as llama.cpp does.
#[cfg(test)]
pub(super) fn tell(line: &CStr) {
    // SAFETY: a C string is NUL-terminated.
    unsafe {
        record(
            sys::GGML_LOG_LEVEL_INFO,
            line.as_ptr(),
            std::ptr::null_mut(),
        );
    }
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
    fn buffers_in_host_memory_are_counted_and_no_others() {
        let mebibytes =
            |line: &str| buffer_bytes(line).map(|bytes| bytes as f64 / f64::from(1 << 20));
        for (line, expected) in [
            (
                "load_tensors:   CPU_REPACK model buffer size =    12.50 MiB\n",
                Some(12.5),
            ),
            (
                "load_tensors:   CPU_Mapped model buffer size =    98.75 MiB\n",
                None,
            ),
            (
                "sched_reserve:        CPU compute buffer size =     3.25 MiB\n",
                Some(3.25),
            ),
            (
                "sched_reserve:      CUDA0 compute buffer size =     3.25 MiB\n",
                None,
            ),
            (
                "llama_kv_cache: size =   45.00 MiB (  2048 cells,  30 layers,  1/1 seqs), K (f16):   22.50 MiB, V (f16):   22.50 MiB\n",
                Some(45.0),
            ),
            (
                "llama_kv_cache_iswa: creating     SWA KV cache, size = 768 cells\n",
                None,
            ),
            ("print_info: file size   = 98.87 MiB (6.17 BPW)\n", None),
        ] {
            assert_eq!(mebibytes(line), expected, "{line}");
        }
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
