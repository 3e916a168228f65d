//! Compares quantised types with the Python package `gguf`, whose authors test its formulas against ggml's.

use cope_convert::gguf::GgmlType;
use cope_convert::quant::{dequantize, quantize};
use cope_convert::sha256;

use crate::files::Folder;

/// For each type, the SHA-256 of the blocks that `quantize` of `gguf` 0.19.0 gives for the numbers of `written`, and of
/// the values that these blocks widen to:
///
/// ```text
/// i = np.arange(64 * 256, dtype=np.uint64)
/// x = ((i * 2654435761 % 2**32) >> 8).astype(np.float64) / 2**24 - 0.5
/// x = (x * (1 + i // 256)).astype(np.float32).reshape(64, 256)
/// for t in (T.Q4_0, …):
///     q = quantize(x, t)
///     y = dequantize(q, t).astype(np.float32)
///     print(t.name, hashlib.sha256(q.tobytes()).hexdigest(), hashlib.sha256(y.tobytes()).hexdigest())
/// ```
const WRITTEN: [(GgmlType, &str, &str); 7] = [
    (
        GgmlType::Q4_0,
        "04298b8cdef131401a5666382313c699906daab24cecfaae18859ce024606ddc",
        "8204f4f2ab911fddb85c811215569143b05476135264b01db4d03d63669039c7",
    ),
    (
        GgmlType::Q4_1,
        "5b0092cbb622fbe8e18408f474018c4e918b171ad4adcf165de76ac5c13c4341",
        "e74e8a90074e32d459bfa956043024f76c78a1c7cbceccd9a9fe8fa13f8d96c4",
    ),
    (
        GgmlType::Q5_0,
        "58218e060308d363f807861d3d8e9784ee7437fce1f7161f3187ccc857015357",
        "198ee49bcda65abfe3525e21ff0505373fb67a49dbbc560c89274cd3da12308a",
    ),
    (
        GgmlType::Q5_1,
        "3f835f73119548870a5581015d1b3644984ff5685cae5eeda153f1f1e3cd41fe",
        "9427a0d4d8542e0e84038d3a5711f848715b42b06880d4829ea734bf6d112e2b",
    ),
    (
        GgmlType::Q8_0,
        "3671258b493b9de237f2c153f543dbbac9b650a1579bc807a53abfb8fd0f4576",
        "edf8acb9efc1623389a5875c40703a2e307f6c00f4a0a144e3e27bfb852d4c8f",
    ),
    (
        GgmlType::F16,
        "b13b119321e61bec5c721bdbf68df8b5331886896c2755d1d6e9fcf243a3949b",
        "7bc245681cfaff977eb35e2315a2ab8ab1aad1f59a57273ba638e3c246f22123",
    ),
    (
        GgmlType::BF16,
        "3bda0d9d2ec4099d4e707da0d05f1d232bf778ad756d13a83d45af8c535e22cc",
        "25cf9c1d65c403b10f8e75c1bb07bf78c364fe45300d42543a830f8f66ebd9b3",
    ),
];

/// For each type, the SHA-256 of the values that its `dequantize` gives for as many whole blocks as fit into these
/// bytes:
///
/// ```text
/// i = np.arange(1 << 13, dtype=np.uint64)
/// b = ((i * 2654435761 % 2**32) >> 13).astype(np.uint8)
/// b[(b & 0x7C) == 0x7C] &= 0xBF  # no 16-bit float is infinite
/// ```
const READ: [(GgmlType, &str); 7] = [
    (
        GgmlType::Q2_K,
        "907f86fc6ac9f0f0bf32c2d2c9861e0bf9fce086b1c752f92365ea1c2a840fc7",
    ),
    (
        GgmlType::Q3_K,
        "86336e2890f922ae66e81afee843ea0ae3e960730ff5d9cc67ef745df1d3c0eb",
    ),
    (
        GgmlType::Q4_K,
        "0501c6b61a78275a8d08e1bb63e9c17980309320f2995af2c9d1d9114e3d27f3",
    ),
    (
        GgmlType::Q5_K,
        "96d6cefbc579ef6a097327d766d3ea4574343050b5ffe4facd317476a672c82d",
    ),
    (
        GgmlType::Q6_K,
        "6ca44e263998e69c493d596fd58a1a6708ff3cba7678efcd0ea0705ff9ed566f",
    ),
    (
        GgmlType::IQ4_NL,
        "86082069fa3b86a513faf0400dffd06cd3fc729233f20ee675a20e263ca2ac03",
    ),
    (
        GgmlType::IQ4_XS,
        "bbe21b2cfa2913883242b668df141ddd9b2c79e735867a532d6f658d4f08fb07",
    ),
];

/// Scattered numbers, the same on every machine.
fn scattered(n: u64) -> impl Iterator<Item = u64> {
    (0..n).map(|i| i * 2_654_435_761 % (1 << 32))
}

fn hash(bytes: &[u8]) -> String {
    sha256(&Folder::new().file(bytes)).unwrap()
}

fn hash_of(values: &[f32]) -> String {
    let bytes: Vec<_> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    hash(&bytes)
}

#[test]
fn quantised_blocks_equal_those_of_the_python_package() {
    let values: Vec<_> = (0..)
        .zip(scattered(64 * 256))
        .map(|(i, it)| ((it >> 8) as f64 / f64::from(1 << 24) - 0.5) * f64::from(1 + i / 256))
        .map(|it| it as f32)
        .collect();
    for (ggml_type, written, widened) in WRITTEN {
        let bytes = quantize(ggml_type, &values).unwrap();
        assert_eq!(hash(&bytes), written, "{ggml_type}");
        let values = dequantize(ggml_type, &bytes).unwrap();
        assert_eq!(hash_of(&values), widened, "{ggml_type}");
    }
}

#[test]
fn widened_values_equal_those_of_the_python_package() {
    let bytes: Vec<_> = scattered(1 << 13)
        .map(|it| (it >> 13) as u8)
        .map(|it| if it & 0x7c == 0x7c { it & 0xbf } else { it })
        .collect();
    for (ggml_type, widened) in READ {
        let n_bytes = bytes.len() - bytes.len() % ggml_type.type_size() as usize;
        let values = dequantize(ggml_type, &bytes[..n_bytes]).unwrap();
        assert_eq!(hash_of(&values), widened, "{ggml_type}");
    }
}

/// Merging a change of 0, or converting through another format, must not change the weights.
#[test]
fn rounding_a_second_time_changes_nothing() {
    let values: Vec<_> = scattered(32 * 100).map(|it| (it as f32).sin()).collect();
    let bytes = quantize(GgmlType::Q8_0, &values).unwrap();
    let again = dequantize(GgmlType::Q8_0, &bytes).unwrap();
    assert_eq!(quantize(GgmlType::Q8_0, &again).unwrap(), bytes);
}

#[test]
fn values_too_large_for_a_type_are_refused() {
    let mut values = [0.0; 32];
    for (value, none) in [
        (7e4, &[GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_1][..]),
        (f32::MAX, &[GgmlType::F16, GgmlType::BF16, GgmlType::Q5_0]),
    ] {
        values[3] = value;
        for &ggml_type in none {
            assert_eq!(quantize(ggml_type, &values), None, "{ggml_type}");
        }
        assert!(quantize(GgmlType::F32, &values).is_some());
    }
    assert_eq!(quantize(GgmlType::Q4_K, &[0.0; 256]), None);
    assert_eq!(dequantize(GgmlType::IQ2_XXS, &[0; 66]), None);
    // A block of zeros has a scale of 0, by which nothing can be divided.
    for ggml_type in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
        let bytes = quantize(ggml_type, &[0.0; 32]).unwrap();
        assert_eq!(dequantize(ggml_type, &bytes).unwrap(), [0.0; 32]);
    }
}
