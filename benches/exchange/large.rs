//! Converts an adapter of more than 200 MB from PEFT to GGUF, and merges it into its base, three layers of a model of
//! 8B. Measures seconds and memory of our converter, of llama.cpp's script, and of copying the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use cope_convert::gguf::{self, GgmlType, TensorData, Value};
use cope_convert::safetensors::{self, Dtype, TensorSpec};
use serde_json::json;

use crate::Options;

const N_EMBD: u64 = 4096;
const N_FF: u64 = 14336;
const N_KV: u64 = 1024;
const N_LAYER: usize = 3;
const RANK: u64 = 256;

/// The linear layers: module, tensor, width of the input and of the output.
const LINEARS: [(&str, &str, u64, u64); 7] = [
    ("self_attn.q_proj", "attn_q", N_EMBD, N_EMBD),
    ("self_attn.k_proj", "attn_k", N_EMBD, N_KV),
    ("self_attn.v_proj", "attn_v", N_EMBD, N_KV),
    ("self_attn.o_proj", "attn_output", N_EMBD, N_EMBD),
    ("mlp.gate_proj", "ffn_gate", N_EMBD, N_FF),
    ("mlp.up_proj", "ffn_up", N_EMBD, N_FF),
    ("mlp.down_proj", "ffn_down", N_FF, N_EMBD),
];

pub fn table(options: &Options) -> Result<()> {
    println!("| | seconds | peak, MB |");
    println!("|---|---|---|");
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target"))?;
    let path = |name: &str| folder.path().join(name);
    let base = write_base(&path("base.gguf"))?;
    let n_bytes = write_peft(&path("peft"))?;
    fs::write(path("config.json"), config().to_string())?;
    let weights = path("peft").join("adapter_model.safetensors");
    let copied = Instant::now();
    fs::copy(&weights, path("copy"))?;
    fs::File::open(path("copy"))?.sync_all()?;
    println!(
        "| a copy of {} MB | {:.2} | |",
        n_bytes >> 20,
        copied.elapsed().as_secs_f64()
    );
    let ours = [
        PathBuf::from(env!("CARGO_BIN_EXE_cope-llama")),
        "convert".into(),
        "adapter".into(),
        path("peft"),
        path("ours.gguf"),
        "--base".into(),
        base.clone(),
    ];
    let merge = [
        PathBuf::from(env!("CARGO_BIN_EXE_cope-llama")),
        "convert".into(),
        "merge".into(),
        base,
        path("ours.gguf"),
        "--output".into(),
        path("merged.gguf"),
    ];
    let theirs = [
        options.python.clone(),
        options.converter(),
        path("peft"),
        "--base".into(),
        folder.path().into(),
        "--outfile".into(),
        path("theirs.gguf"),
        "--outtype".into(),
        "f32".into(),
    ];
    let [ours, theirs] = [measure(options, &ours)?, measure(options, &theirs)?];
    println!("| ours | {:.2} | {:.0} |", ours.0, ours.1);
    println!("| llama.cpp's script | {:.2} | {:.0} |", theirs.0, theirs.1);
    println!(
        "| ÷ | {:.1} | {:.1} |",
        theirs.0 / ours.0,
        theirs.1 / ours.1
    );
    let (seconds, peak) = measure(options, &merge)?;
    println!("| merged by ours | {seconds:.2} | {peak:.0} |");
    Ok(())
}

/// The seconds and the peak memory in MB of a command, measured by a Python script, whose library can ask for a child's
/// memory.
fn measure(options: &Options, command: &[PathBuf]) -> Result<(f64, f64)> {
    const MEASURE: &str = "import resource, subprocess, sys, time\n\
        started = time.time()\n\
        run = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n\
        if run.returncode: sys.exit(run.stderr.decode())\n\
        print(time.time() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)";
    let output = Command::new(&options.python)
        .args(["-c", MEASURE])
        .args(command)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse);
    let mut next = || figures.next().unwrap_or(Ok(f64::NAN));
    Ok((next()?, next()?))
}

/// Writes a base of these shapes, whose weights are all 0.
fn write_base(path: &Path) -> Result<PathBuf> {
    let metadata = [
        ("general.architecture".to_owned(), Value::from("llama")),
        ("llama.attention.head_count".to_owned(), Value::from(32_u32)),
        (
            "llama.attention.head_count_kv".to_owned(),
            Value::from(8_u32),
        ),
    ];
    let layers = (0..N_LAYER).flat_map(|layer| LINEARS.map(|linear| (layer, linear)));
    let tensors = layers.map(|(layer, (_, name, n_in, n_out))| {
        let name = format!("blk.{layer}.{name}.weight");
        let ggml_type = GgmlType::Q4_0;
        let n_bytes = n_in * n_out / ggml_type.block_size() * ggml_type.type_size();
        TensorData::streamed(name, &[n_in, n_out], ggml_type, move |out| {
            out.write(&vec![0; n_bytes as usize])
        })
    });
    gguf::write(path, &metadata, &tensors.collect::<Vec<_>>())?;
    Ok(path.to_owned())
}

/// Writes an adapter of these shapes, and returns the length of its file of weights in bytes.
fn write_peft(folder: &Path) -> Result<u64> {
    fs::create_dir(folder)?;
    let config = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "bias": "none"});
    fs::write(folder.join("adapter_config.json"), config.to_string())?;
    let layers = (0..N_LAYER).flat_map(|layer| LINEARS.map(|linear| (layer, linear)));
    let specs = layers.flat_map(|(layer, (module, _, n_in, n_out))| {
        [("A", [RANK, n_in]), ("B", [n_out, RANK])].map(|(half, shape)| TensorSpec {
            name: format!("base_model.model.model.layers.{layer}.{module}.lora_{half}.weight"),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        })
    });
    let specs: Vec<_> = specs.collect();
    let path = folder.join("adapter_model.safetensors");
    safetensors::write(&path, &BTreeMap::new(), &specs, |number| {
        let n = specs[number].shape.iter().product::<u64>();
        let value = |i| ((i * 2_654_435_761 % (1 << 20)) as f32 / 1e6).to_le_bytes();
        Ok((0..n).flat_map(value).collect())
    })?;
    Ok(fs::metadata(&path)?.len())
}

/// The configuration of the base, which llama.cpp's script needs.
fn config() -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": N_EMBD, "intermediate_size": N_FF,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": N_LAYER, "rms_norm_eps": 1e-5,
        "vocab_size": 128, "rope_theta": 10000.0, "max_position_embeddings": 2048, "tie_word_embeddings": true,
        "hidden_act": "silu", "torch_dtype": "float32",
    })
}
