//! Reads any bytes as a GGUF file and as an adapter, writes that adapter again, and merges it into the file itself.

#![no_main]

use std::cell::RefCell;
use std::fs;

use cope_convert::gguf::Gguf;
use cope_convert::{Adapter, LoraPair, StoredPair, merge};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().expect("a temporary folder"));
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let [path, out] = ["in.gguf", "out.gguf"].map(|name| folder.path().join(name));
        fs::write(&path, bytes).expect("a temporary folder");
        let Ok(file) = Gguf::open(&path) else { return };
        for tensor in &file.tensors {
            let n_bytes = file.read(tensor).expect("inside the file").len();
            assert_eq!(n_bytes as u64, tensor.n_bytes);
        }
        let Ok(adapter) = Adapter::open_gguf(&path) else {
            return;
        };
        // An adapter that was read can be written, unless a weight is not finite, and then reads back the same.
        // Quantised blocks are an exception: a file may hold blocks that rounding never produces.
        if adapter.write_gguf(&out).is_ok() {
            let again = Adapter::read_gguf(&out).expect("ours");
            let is_exact = |pair: &StoredPair| pair.types().iter().all(|it| it.block_size() == 1);
            if adapter.tensors.iter().all(is_exact) {
                assert_eq!(adapter.load().expect("finite"), again);
            }
        }
        let _ = merge(&file, "", &[(adapter, 1.0)], None, &out, &|_| Ok(()));
    });
});
