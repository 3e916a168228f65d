//! Stores of other programs, whole and damaged, in the layouts that these programs write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cope_convert::gguf::Gguf;
use cope_llama::bases::{ModelFacts, Places, StoredModels, all_stored, find_stored};
use serde_json::{Value, json};

use crate::tiny::TinyModel;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
const OLLAMA: &str = "registry.ollama.ai/library";

/// A folder with one store of each program.
pub struct Stores(tempfile::TempDir);

impl Stores {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    pub fn places(&self) -> Places {
        Places {
            hub_caches: vec![self.path("hub")],
            hub_token: None,
            ollama: vec![self.path("ollama")],
            lm_studio: vec![self.path("lmstudio")],
            gpt4all: vec![self.path("gpt4all")],
        }
    }

    /// A file with these bytes.
    fn file(&self, inside: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn link(&self, inside: &str, target: impl AsRef<Path>) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A file of a snapshot in Hugging Face's cache, which links to a blob of its name.
    fn cached(&self, repo: &str, commit: &str, file: &str) {
        let folder = format!("hub/models--{}", repo.replace('/', "--"));
        self.file(&format!("{folder}/blobs/{}", file.replace('/', "-")), file);
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{}", file.replace('/', "-"));
        self.link(&format!("{folder}/snapshots/{commit}/{file}"), target);
    }

    /// A name of a commit in Hugging Face's cache.
    fn named(&self, repo: &str, name: &str, commit: &str) {
        let folder = format!("hub/models--{}", repo.replace('/', "--"));
        self.file(&format!("{folder}/refs/{name}"), commit);
    }

    /// A blob of Ollama's store, and its layer.
    fn layer(&self, number: u8, kind: &str, bytes: impl AsRef<[u8]>) -> Value {
        let hex = format!("{number:064x}");
        let size = bytes.as_ref().len();
        self.file(&format!("ollama/blobs/sha256-{hex}"), bytes);
        layer(kind, &format!("sha256:{hex}"), size)
    }

    /// A manifest of Ollama's store.
    pub fn manifest(&self, name: &str, layers: &[Value]) {
        let manifest = manifest(layers);
        self.file(&format!("ollama/manifests/{name}"), manifest.to_string());
    }

    /// A model in Ollama's store with these bytes.
    pub fn ollama_model(&self, name: &str, number: u8, bytes: impl AsRef<[u8]>) {
        let template = self.layer(number | 128, "template", "{{ .Prompt }}");
        self.manifest(name, &[self.layer(number, "model", bytes), template]);
    }

    /// Asserts which models are found, by their names, and which lines are said about others.
    #[track_caller]
    fn assert(&self, names: &[&str], notes: &[&str]) -> StoredModels {
        let found = all_stored(&self.places());
        let found_names: Vec<&str> = found.models.iter().map(|it| &*it.name).collect();
        assert_eq!(found_names, names);
        assert_eq!(found.notes, notes);
        for model in &found.models {
            assert!(model.path.is_file(), "{model:?}");
            let path = find_stored(&self.places(), &model.name).unwrap();
            assert_eq!(path.as_ref(), Some(&model.path), "{}", model.name);
        }
        found
    }

    fn refusal(&self, name: &str) -> String {
        find_stored(&self.places(), name).unwrap_err().to_string()
    }
}

fn layer(kind: &str, digest: &str, size: usize) -> Value {
    let kind = format!("application/vnd.ollama.image.{kind}");
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

fn manifest(layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": format!("sha256:{:064x}", 9),
            "size": 5,
        },
        "layers": layers,
    })
}

#[test]
fn no_store_is_no_error() {
    Stores::new().assert(&[], &[]);
}

#[test]
fn a_cached_repository_has_a_name_for_each_model() {
    let stores = Stores::new();
    for file in [
        "config.json",
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "mmproj-m-F16.gguf",
    ] {
        stores.cached("a/b-GGUF", COMMIT, file);
    }
    stores.cached("a/b-GGUF", OTHER_COMMIT, "m-Q2_K.gguf");
    stores.named("a/b-GGUF", "main", COMMIT);
    stores.assert(&["hf:a/b-GGUF:Q4_K_M", "hf:a/b-GGUF:Q8_0"], &[]);
    let find = |name: &str| find_stored(&stores.places(), name).unwrap().unwrap();
    assert!(find("hf:a/b-GGUF").ends_with("m-Q4_K_M.gguf"));
    assert!(find("hf:a/b-GGUF:q8_0").ends_with("m-Q8_0.gguf"));
    assert!(find("hf:a/b-GGUF/m-Q8_0.gguf").ends_with("m-Q8_0.gguf"));
    assert_eq!(
        stores.refusal("hf:a/b-GGUF:Q2_K"),
        "Hugging Face has no model hf:a/b-GGUF:Q2_K on this machine; there are hf:a/b-GGUF:Q4_K_M, hf:a/b-GGUF:Q8_0"
    );
    assert_eq!(
        find_stored(&stores.places(), "a/b-GGUF:Q8_0").unwrap(),
        None
    );
}

#[test]
fn files_of_one_quantisation_have_names_of_their_own() {
    let stores = Stores::new();
    for file in ["UD/m-Q4_0.gguf", "m-Q4_0.gguf", "model.gguf"] {
        stores.cached("a/b", COMMIT, file);
    }
    stores.named("a/b", "main", COMMIT);
    stores.assert(
        &["hf:a/b:Q4_0", "hf:a/b/m-Q4_0.gguf", "hf:a/b/model.gguf"],
        &[],
    );
}

#[test]
fn a_cached_model_in_parts_is_one_model() {
    let stores = Stores::new();
    for part in 1..=3 {
        stores.cached(
            "a/b",
            COMMIT,
            &format!("BF16/m-BF16-{part:05}-of-00003.gguf"),
        );
    }
    stores.named("a/b", "main", COMMIT);
    stores.assert(&["hf:a/b:BF16"], &[]);
    fs::remove_file(stores.path("hub/models--a--b/blobs/BF16-m-BF16-00002-of-00003.gguf")).unwrap();
    // All parts are looked for where a name is not in the list.
    assert!(
        stores
            .refusal("hf:a/b")
            .starts_with("Hugging Face has no model hf:a/b ")
    );
}

#[test]
fn a_snapshot_is_current_by_another_name_or_alone() {
    let stores = Stores::new();
    stores.cached("a/tagged", COMMIT, "m-Q8_0.gguf");
    stores.cached("a/tagged", OTHER_COMMIT, "m-Q4_0.gguf");
    stores.named("a/tagged", "v1", OTHER_COMMIT);
    stores.cached("b/alone", COMMIT, "m-Q8_0.gguf");
    stores.cached("c/many", COMMIT, "m-Q8_0.gguf");
    stores.cached("c/many", OTHER_COMMIT, "m-Q4_0.gguf");
    stores.named("c/many", "main", "../../../etc/passwd");
    let many = "hf:c/many: none of its snapshots in the cache is the current one; download the model again";
    stores.assert(&["hf:a/tagged:Q4_0", "hf:b/alone:Q8_0"], &[many]);
    assert_eq!(stores.refusal("hf:c/many"), many);
}

#[test]
fn a_link_to_a_blob_that_is_gone_is_said() {
    let stores = Stores::new();
    stores.cached("a/b", COMMIT, "m-Q8_0.gguf");
    stores.cached("a/b", COMMIT, "m-Q4_0.gguf");
    stores.named("a/b", "main", COMMIT);
    fs::remove_file(stores.path("hub/models--a--b/blobs/m-Q8_0.gguf")).unwrap();
    let gone = "hf:a/b:Q8_0: its file is missing from the cache";
    stores.assert(&["hf:a/b:Q4_0"], &[gone]);
    assert_eq!(stores.refusal("hf:a/b:Q8_0"), gone);
}

#[test]
fn files_without_links_and_folders_that_are_no_models_are_told_apart() {
    let stores = Stores::new();
    // A file system without links has the files themselves.
    stores.file(
        &format!("hub/models--a--b/snapshots/{COMMIT}/m-Q8_0.gguf"),
        "x",
    );
    stores.named("a/b", "main", &format!("{COMMIT}\n"));
    stores.file(
        &format!("hub/datasets--a--b/snapshots/{COMMIT}/m-Q8_0.gguf"),
        "x",
    );
    stores.file(
        &format!("hub/models--gpt2/snapshots/{COMMIT}/m-Q8_0.gguf"),
        "x",
    );
    stores.cached("a/safetensors", COMMIT, "model.safetensors");
    stores.named("a/safetensors", "main", COMMIT);
    stores.file("hub/models--a--empty/refs/main", COMMIT);
    stores.file("hub/.locks/models--a--b/x.lock", "");
    stores.file("hub/CACHEDIR.TAG", "");
    stores.assert(&["hf:a/b:Q8_0"], &[]);
}

#[test]
fn a_cache_that_is_no_folder_is_said() {
    let stores = Stores::new();
    stores.file("hub", "");
    stores.file("gpt4all/m.gguf", "x");
    let found = all_stored(&stores.places());
    assert_eq!(found.models.len(), 1);
    let note = format!(
        "the models of Hugging Face: cannot read {}: Not a directory (os error 20)",
        stores.path("hub").display()
    );
    assert_eq!(found.notes, [note]);
}

#[test]
fn models_of_ollama_have_the_names_that_it_shows() {
    let stores = Stores::new();
    stores.ollama_model(&format!("{OLLAMA}/llama3.2/1b"), 1, "one");
    stores.ollama_model(&format!("{OLLAMA}/llama3.2/latest"), 2, "two");
    stores.ollama_model("registry.ollama.ai/someone/tale/7b", 3, "three");
    stores.ollama_model("hf.co/a/b-GGUF/Q4_K_M", 4, "four");
    stores.file(&format!("ollama/manifests/{OLLAMA}/.DS_Store"), "");
    let found = stores.assert(
        &[
            "ollama:hf.co/a/b-GGUF:Q4_K_M",
            "ollama:llama3.2:1b",
            "ollama:llama3.2:latest",
            "ollama:someone/tale:7b",
        ],
        &[],
    );
    assert_eq!(fs::read(&found.models[2].path).unwrap(), b"two");
    let latest = find_stored(&stores.places(), "ollama:llama3.2").unwrap();
    assert_eq!(latest.as_ref(), Some(&found.models[2].path));
    assert_eq!(
        stores.refusal("ollama:llama3.2:3b").split(';').next(),
        Some("Ollama has no model ollama:llama3.2:3b on this machine")
    );
}

#[test]
fn blobs_of_old_versions_and_links_to_blobs_are_found() {
    let stores = Stores::new();
    let digest = format!("sha256:{:064x}", 1);
    stores.file(&format!("ollama/blobs/{digest}"), "old");
    stores.manifest(&format!("{OLLAMA}/old/1b"), &[layer("model", &digest, 3)]);
    let elsewhere = stores.file("disk/model", "linked");
    stores.ollama_model(&format!("{OLLAMA}/linked/1b"), 2, "");
    let blob = format!("ollama/blobs/sha256-{:064x}", 2);
    fs::remove_file(stores.path(&blob)).unwrap();
    stores.link(&blob, elsewhere);
    let digest = format!("sha256:{:064x}", 2);
    stores.manifest(
        &format!("{OLLAMA}/linked/1b"),
        &[layer("model", &digest, 6)],
    );
    stores.assert(&["ollama:linked:1b", "ollama:old:1b"], &[]);
}

#[test]
fn new_manifests_link_to_blobs_and_hide_old_ones() {
    let stores = Stores::new();
    stores.ollama_model(&format!("{OLLAMA}/both/1b"), 1, "old");
    let list_type = "application/vnd.ollama.manifest.list.v2+json";
    let gguf = manifest(&[stores.layer(2, "model", "new")]).to_string();
    let blob = format!("{:064x}", 3);
    stores.file(&format!("ollama/blobs/sha256-{blob}"), gguf);
    let mlx = json!({ "runner": "mlx", "layers": [stores.layer(4, "tensor", "t")] });
    let by_digest = json!({ "runner": "ollama", "digest": format!("sha256:{blob}") });
    let inline = json!({ "runner": "llamacpp", "layers": [stores.layer(5, "model", "in")] });
    for (number, name, manifests) in [
        (6, "both", vec![mlx.clone(), by_digest]),
        (7, "inline", vec![mlx.clone(), inline]),
        (8, "mlx", vec![mlx]),
    ] {
        let list = json!({ "schemaVersion": 2, "mediaType": list_type, "manifests": manifests });
        let blob = format!("blobs/sha256-{number:064x}");
        stores.file(&format!("ollama/{blob}"), list.to_string());
        let place = format!("ollama/manifests-v2/{OLLAMA}/{name}/1b");
        stores.link(&place, format!("../../../../{blob}"));
    }
    let found = stores.assert(
        &["ollama:both:1b", "ollama:inline:1b"],
        &["ollama:mlx:1b: none of its forms is a GGUF file"],
    );
    assert_eq!(fs::read(&found.models[0].path).unwrap(), b"new");
    assert_eq!(fs::read(&found.models[1].path).unwrap(), b"in");
}

#[test]
fn models_of_ollama_that_cannot_be_used_are_said() {
    let stores = Stores::new();
    let model = stores.layer(1, "model", "whole");
    let of = |name: &str, layers: &[Value]| stores.manifest(&format!("{OLLAMA}/{name}/t"), layers);
    of("a-cloud", &[]);
    of(
        "b-adapter",
        &[model.clone(), stores.layer(2, "adapter", "x")],
    );
    of("c-several", &[model.clone(), stores.layer(3, "model", "x")]);
    of("d-tensors", &[stores.layer(4, "tensor", "x")]);
    of(
        "e-gone",
        &[layer("model", &format!("sha256:{:064x}", 99), 5)],
    );
    of(
        "f-short",
        &[layer("model", &format!("sha256:{:064x}", 1), 9)],
    );
    of("g-evil", &[layer("model", "sha256:../../../disk/model", 6)]);
    stores.file(
        &format!("ollama/manifests/{OLLAMA}/h-broken/t"),
        "{\"layers\": 1}",
    );
    stores.file(&format!("ollama/manifests/{OLLAMA}/i-empty/t"), "");
    stores.link(&format!("ollama/manifests/{OLLAMA}/j-nowhere/t"), "gone");
    stores.assert(
        &[],
        &[
            "ollama:a-cloud:t: it has no model file on this machine",
            "ollama:b-adapter:t: it has an adapter of its own, which cannot be used here; use its base",
            "ollama:c-several:t: it consists of several model files, which only Ollama joins",
            "ollama:d-tensors:t: it is stored as tensors, and not as a GGUF file",
            "ollama:e-gone:t: its model file is missing",
            "ollama:f-short:t: its model file has 5 of 9 bytes",
            "ollama:g-evil:t: its manifest names a file that is no SHA-256",
            "ollama:h-broken:t: its manifest cannot be read (invalid type: integer `1`, expected a sequence at line 1 column 12)",
            "ollama:i-empty:t: its manifest cannot be read (EOF while parsing a value at line 1 column 0)",
            "ollama:j-nowhere:t: its manifest cannot be read (No such file or directory (os error 2))",
        ],
    );
    assert_eq!(
        stores.refusal("ollama:f-short:t"),
        "ollama:f-short:t: its model file has 5 of 9 bytes"
    );
}

#[test]
fn folders_of_lm_studio_are_looked_through() {
    let stores = Stores::new();
    let model = "lmstudio/lmstudio-community/Qwen3-0.6B-GGUF";
    for file in [
        "Qwen3-0.6B-Q8_0.gguf",
        "mmproj-x.gguf",
        "big-00001-of-00002.gguf",
        "big-00002-of-00002.gguf",
        "downloading_x.gguf.part",
        "README.md",
    ] {
        stores.file(&format!("{model}/{file}"), "x");
    }
    stores.link("lmstudio/mine/linked", stores.path(model));
    stores.link("lmstudio/mine/loop", stores.path("lmstudio/mine"));
    stores.link("lmstudio/mine/gone/m.gguf", "nowhere");
    let found = all_stored(&stores.places());
    let names: Vec<&str> = found.models.iter().map(|it| &*it.name).collect();
    let own = "lmstudio:lmstudio-community/Qwen3-0.6B-GGUF";
    let linked = "lmstudio:mine/linked";
    for folder in [own, linked] {
        for file in ["Qwen3-0.6B-Q8_0.gguf", "big-00001-of-00002.gguf"] {
            assert!(names.contains(&&*format!("{folder}/{file}")), "{names:?}");
        }
    }
    // A loop of links ends.
    assert!(names.len() < 20, "{names:?}");
    let gone = "lmstudio:mine/gone/m.gguf: the link to its file leads nowhere";
    assert_eq!(found.notes[0], gone);
}

#[test]
fn a_model_of_gpt4all_is_found_and_an_unfinished_one_is_not() {
    let stores = Stores::new();
    stores.file("gpt4all/Llama-3.2-1B-Instruct-Q4_0.gguf", "x");
    stores.file("gpt4all/incomplete-Phi-3-mini.gguf", "x");
    stores.file("gpt4all/localdocs_v3.db", "x");
    stores.assert(&["gpt4all:Llama-3.2-1B-Instruct-Q4_0.gguf"], &[]);
}

#[test]
fn a_header_tells_what_a_model_is_and_what_cannot_chat() {
    let stores = Stores::new();
    let path = stores.path("m.gguf");
    TinyModel::default().write(&path);
    let header = Gguf::open(&path).unwrap();
    let facts = ModelFacts::of(&header).unwrap();
    assert_eq!(facts.architecture, "llama");
    assert_eq!(facts.weight_type.unwrap().name(), "F32");
    assert_eq!(facts.bytes, fs::metadata(&path).unwrap().len());
    for (architecture, reason) in [
        ("clip", "it reads images for another model and cannot chat"),
        ("nomic-bert", "it makes embeddings and cannot chat"),
    ] {
        TinyModel::default().write_edited(&path, |metadata| {
            let mut entries = metadata.iter_mut();
            let (_, value) = entries
                .find(|(key, _)| key == "general.architecture")
                .unwrap();
            *value = architecture.into();
        });
        let error = ModelFacts::of(&Gguf::open(&path).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), reason);
    }
}
