//! Reads any bytes as a safetensors file.

#![no_main]

use std::cell::RefCell;
use std::fs;

use cope_convert::safetensors::SafeTensors;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join("in.safetensors");
        fs::write(&path, bytes).expect("a temporary folder");
        let Ok(file) = SafeTensors::open(&path) else {
            return;
        };
        for tensor in &file.tensors {
            let n_bytes = file.read(tensor).expect("inside the file").len();
            assert_eq!(n_bytes as u64, tensor.n_bytes);
        }
    });
});
