//! Thousands of adapters of PEFT and MLX with random names, shapes and settings, and with a fault in most of them. Each
//! has to become what its own format says it computes, `factor · B A`, or be refused in one line that names the fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cope_convert::gguf::{self, Gguf, TensorData, Value};
use cope_convert::{Adapter, Error};

use crate::files::Folder;
use crate::peft::FAMILIES;
use crate::random_peft::{Case, Module, N_EMBD, N_LAYER, N_VOCAB, Rng, Tensor, layer, sound};

/// The number of adapters of each family: a part of the many that `make mutations` tries.
fn n_cases() -> u64 {
    let n = std::env::var("COPE_MUTATIONS");
    n.map_or(500, |n| n.parse().expect("COPE_MUTATIONS is a number"))
}

/// `layer` in a file that holds q, k and v as one matrix. `None` if the layer has a matrix of that name already.
fn fused_layer(layer: &[Module]) -> Option<Vec<Module>> {
    const WHOLE: Module = ("", "attn_qkv", 16, N_EMBD);
    let is_part = |tensor: &str| ["attn_q", "attn_k", "attn_v"].contains(&tensor);
    let others = layer.iter().filter(|it| !is_part(it.1)).copied();
    let is_new = layer.iter().all(|it| it.1 != WHOLE.1);
    is_new.then(|| others.chain([WHOLE]).collect())
}

/// Settings that change what an adapter computes, or may do so.
const HARMFUL: [(&str, &str); 12] = [
    ("use_dora", "true"),
    ("bias", "\"all\""),
    ("lora_bias", "true"),
    ("modules_to_save", "[\"lm_head\"]"),
    ("init_lora_weights", "\"pissa\""),
    ("trainable_token_indices", "[1]"),
    ("layer_replication", "[[0, 1]]"),
    ("alora_invocation_tokens", "[7]"),
    ("a_setting_of_tomorrow", "0.5"),
    ("a_setting_of_tomorrow", "\"cosine\""),
    ("a_setting_of_tomorrow", "{\"scale\": 2}"),
    ("a_setting_of_tomorrow", "true"),
];

/// Names of tensors that are no part of a plain LoRA.
const STRAY: [&str; 6] = [
    "base_model.model.model.layers.0.self_attn.o_proj.lora_magnitude_vector.weight",
    "base_model.model.model.layers.0.self_attn.o_proj.lora_B.bias",
    "base_model.model.model.embed_tokens.weight",
    "base_model.model.model.embed_tokens.lora_embedding_A",
    "base_model.model.lm_head.modules_to_save.weight",
    "vision_tower.encoder.layers.0.self_attn.q_proj.lora",
];

/// Writes a base of `architecture` with `layer`.
fn base(path: &Path, architecture: &str, layer: &[Module], is_tied: bool) -> Gguf {
    let number = |key: &str, number: u32| (format!("{architecture}.{key}"), Value::from(number));
    let metadata = [
        ("general.architecture".to_owned(), Value::from(architecture)),
        number("attention.head_count", 2),
        number("attention.head_count_kv", 1),
        // Those of a gated delta net, which only one family reads.
        number("ssm.group_count", 2),
        number("ssm.time_step_rank", 4),
        number("ssm.state_size", 2),
    ];
    let weights = [0.5; 24 * N_EMBD];
    let tensor = |name: String, rows: usize, cols: usize| {
        TensorData::f32(name, &[cols as u64, rows as u64], &weights[..rows * cols])
    };
    let mut tensors = vec![tensor("token_embd.weight".into(), N_VOCAB, N_EMBD)];
    if !is_tied {
        tensors.push(tensor("output.weight".into(), N_VOCAB, N_EMBD));
    }
    for number in 0..N_LAYER {
        let of = layer.iter().map(|(_, name, rows, cols)| {
            tensor(format!("blk.{number}.{name}.weight"), *rows, *cols)
        });
        tensors.extend(of);
    }
    gguf::write(path, &metadata, &tensors).unwrap();
    Gguf::open(path).unwrap()
}

/// The bases of one family.
struct Bases {
    plain: Gguf,
    tied: Gguf,
    /// With q, k and v as one matrix, see [`fused_layer`].
    fused: Option<Gguf>,
}

/// Puts a fault into a sound adapter. Returns the base to read it with, and words that a refusal has to have; `None` if
/// the adapter is still sound.
fn spoil<'b>(case: &mut Case, rng: &mut Rng, bases: &'b Bases) -> (&'b Gguf, Option<String>) {
    let is_split =
        |(_, (_, name, ..)): &(_, Module)| matches!(*name, "attn_q" | "attn_k" | "attn_v");
    let fault = match rng.below(5) {
        0 => Some(spoil_settings(case, rng)),
        1 | 2 => spoil_tensors(case, rng),
        3 if case.deltas.contains_key("output.weight") => {
            return (&bases.tied, Some("ties its head".into()));
        }
        3 if case.modules.iter().any(is_split) => {
            if let Some(base) = &bases.fused {
                case.deltas = fused(&case.deltas);
                return (base, None);
            }
            None
        }
        _ => None,
    };
    (&bases.plain, fault)
}

/// The same changes where q, k and v of a layer are one matrix.
fn fused(deltas: &BTreeMap<String, Vec<f64>>) -> BTreeMap<String, Vec<f64>> {
    let mut fused = BTreeMap::new();
    for (name, delta) in deltas {
        let part = ["attn_q.", "attn_k.", "attn_v."].into_iter();
        let Some((part, first)) = part.zip([0, 8, 12]).find(|it| name.contains(it.0)) else {
            fused.insert(name.clone(), delta.clone());
            continue;
        };
        let whole = fused.entry(name.replace(part, "attn_qkv."));
        let whole = whole.or_insert_with(|| vec![0.0; 16 * N_EMBD]);
        whole[first * N_EMBD..][..delta.len()].copy_from_slice(delta);
    }
    fused
}

/// Sets a setting that changes what is computed, or that cannot be read.
fn spoil_settings(case: &mut Case, rng: &mut Rng) -> String {
    let (name, value, needle) = match rng.below(5) {
        0 if !case.is_mlx => {
            let (name, value) = rng.pick(&HARMFUL);
            (name, value, name)
        }
        1 if !case.is_mlx => {
            case.set("rank_pattern", "{}");
            ("r", "9", "rank")
        }
        2 if !case.is_mlx => {
            let value = rng.pick(&["\"LOHA\"", "\"ADALORA\"", "\"IA3\""]);
            ("peft_type", value, "peft_type")
        }
        3 => {
            let name = if case.is_mlx {
                "lora_parameters"
            } else {
                "lora_alpha"
            };
            let value = rng.pick(&["null", "\"8\"", "[]", "1e999", "NaN"]);
            (name, value, "configuration cannot be read")
        }
        _ => {
            let name = "a_setting_of_tomorrow";
            (name, rng.pick(&["1", "\"x\"", "[0]", "true"]), name)
        }
    };
    case.set(name, value);
    needle.to_owned()
}

/// The name of a tensor with a module that there is not.
fn misspelt(name: &str) -> String {
    let name = name.replace("_proj", "_prong");
    let name = name.replace("lm_head", "lm_prong");
    let name = name.replace("input_gate", "input_prong");
    name.replace("feed_forward.w", "feed_prong.w")
}

/// Changes the name, the shape or a value of a tensor, or adds or removes one. `None` where the fault would be none.
fn spoil_tensors(case: &mut Case, rng: &mut Rng) -> Option<String> {
    let chosen = rng.below(case.tensors.len());
    let tensor = &mut case.tensors[chosen];
    if tensor.name.contains("base_layer") {
        tensor.shape.reverse();
        return Some("shape".into());
    }
    let needle = match rng.below(8) {
        0 => {
            case.tensors.remove(chosen);
            "half"
        }
        1 => {
            tensor.values.extend_from_within(..tensor.shape[1]);
            tensor.shape[0] += 1;
            ""
        }
        2 => {
            tensor.shape.insert(0, 1);
            "shape"
        }
        3 => {
            tensor.name = misspelt(&tensor.name);
            "_prong"
        }
        4 => {
            let name = rng.pick(&STRAY);
            let (shape, values) = (vec![1, 1], vec![1.0]);
            case.tensors.push(Tensor {
                name: name.into(),
                shape,
                values,
            });
            &name[..30]
        }
        5 if tensor.name.contains("layers.1.") => {
            tensor.name = tensor.name.replace("layers.1.", "layers.5.");
            ""
        }
        6 if !case.is_mlx => {
            let half = if chosen.is_multiple_of(2) { "A" } else { "B" };
            let (module, _) = tensor.name.rsplit_once(".lora_")?;
            let name = format!("{module}.lora_{half}.other.weight");
            let again = Tensor {
                name,
                ..tensor.clone()
            };
            case.tensors.push(again);
            "several adapters"
        }
        7 => {
            tensor.values[0] = rng.pick(&[f32::NAN, f32::INFINITY]);
            "not finite"
        }
        _ => return None,
    };
    Some(needle.to_owned())
}

/// The change that a converted adapter makes to each tensor.
fn deltas(adapter: &Adapter) -> BTreeMap<String, Vec<f64>> {
    let delta = |tensor: &cope_convert::LoraTensor| {
        let (a, b) = (&tensor.a, &tensor.b);
        let scale = f64::from(adapter.lora_scale(tensor.rank()));
        let places = (0..b.rows).flat_map(|row| (0..a.cols).map(move |col| (row, col)));
        let sums = places.map(|(row, col)| {
            let terms = (0..a.rows)
                .map(|r| f64::from(b.data[row * b.cols + r]) * f64::from(a.data[r * a.cols + col]));
            scale * terms.sum::<f64>()
        });
        (tensor.name.clone(), sums.collect())
    };
    adapter.tensors.iter().map(delta).collect()
}

fn assert_same(
    got: &BTreeMap<String, Vec<f64>>,
    expected: &BTreeMap<String, Vec<f64>>,
    about: &str,
) {
    assert!(got.keys().eq(expected.keys()), "{about}: {:?}", got.keys());
    for (name, got) in got {
        let expected = &expected[name];
        assert_eq!(got.len(), expected.len(), "{about}: {name}");
        let most = expected
            .iter()
            .fold(0.0, |most: f64, it| most.max(it.abs()));
        for (got, expected) in got.iter().zip(expected) {
            assert!(
                (got - expected).abs() <= 1e-5 * most,
                "{about}: {name}: {got} for {expected}"
            );
        }
    }
}

/// Checks that a GGUF file with `adapter` becomes an adapter of a base with fused q, k and v, and changes that alike, with
/// alpha and without.
fn assert_fused(adapter: &Adapter, path: &Path, base: &Gguf, about: &str) {
    for lora_alpha in [adapter.lora_alpha, 0.0] {
        let adapter = Adapter {
            lora_alpha,
            ..adapter.clone()
        };
        adapter.write_gguf(path).unwrap();
        let opened = Adapter::open_gguf(path).and_then(|it| it.fused_for(base));
        let opened = opened.unwrap();
        opened.check_fits(base, "").unwrap();
        assert_same(
            &deltas(&opened.load().unwrap()),
            &fused(&deltas(&adapter)),
            about,
        );
    }
}

#[test]
fn every_adapter_becomes_what_it_computes_or_is_refused_for_its_fault() {
    for architecture in FAMILIES {
        let folder = Folder::new();
        let plain = layer(architecture);
        let bases = Bases {
            plain: base(&folder.join("plain.gguf"), architecture, &plain, false),
            tied: base(&folder.join("tied.gguf"), architecture, &plain, true),
            fused: fused_layer(&plain)
                .map(|layer| base(&folder.join("fused.gguf"), architecture, &layer, false)),
        };
        let (mut n_read, mut n_refused) = (0, 0);
        for seed in 1..=n_cases() {
            let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut case = sound(&mut rng, architecture);
            let (base, fault) = spoil(&mut case, &mut rng, &bases);
            let config = case.write(&mut rng, &folder.join(""));
            let mut about = format!("{architecture}, case {seed}: {config}");
            for tensor in &case.tensors {
                write!(about, "\n{} {:?}", tensor.name, tensor.shape).unwrap();
            }
            let read = Adapter::open_peft(&folder.join(""), base).and_then(|it| it.load());
            match (read, fault) {
                (Ok(adapter), None) => {
                    // Phi-3's own matrix of q, k and v is the module itself.
                    let is_plain = base.path == bases.plain.path && architecture != "phi3";
                    if let Some(whole) = bases.fused.as_ref().filter(|_| is_plain) {
                        assert_fused(&adapter, &folder.join("adapter.gguf"), whole, &about);
                    }
                    assert_same(&deltas(&adapter), &case.deltas, &about);
                    let again = folder.join("again");
                    adapter.write_peft(&again, base, "base", None).unwrap();
                    let again = Adapter::open_peft(&again, base).and_then(|it| it.load());
                    assert_same(&deltas(&again.unwrap()), &case.deltas, &about);
                    n_read += 1;
                }
                (Err(error), Some(needle)) => {
                    assert_refused(&error, &needle, &about);
                    n_refused += 1;
                }
                (Ok(_), Some(needle)) => panic!("not refused ({needle}): {about}"),
                (Err(error), None) => panic!("{error}: {about}"),
            }
        }
        assert!(
            n_read > n_cases() / 5 && n_refused > n_cases() / 2,
            "{n_read} and {n_refused}"
        );
    }
}

fn assert_refused(error: &Error, needle: &str, about: &str) {
    let message = error.to_string();
    assert!(message.contains(needle), "{message} ({needle}): {about}");
    assert!(!message.contains('\n') && message.len() < 600, "{message}");
}
