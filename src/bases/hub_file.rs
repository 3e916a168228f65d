//! Which file of a repository of Hugging Face's Hub is meant, by the rules of llama.cpp's `-hf` and `--hf-file`.

use std::fmt;
use std::path::Path;

use cope_convert::gguf::is_part;

use crate::{Error, Result};

/// The quantisations that are looked for when none is named, in this order. The first model file comes after them.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// The name of a repository, `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoName(String);

impl RepoName {
    /// Checks a name: letters, digits, `_`, and between them single `-` and `.`; one slash.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], if it is none.
    pub fn parse(name: &str) -> Result<Self> {
        let is_base = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_part = |part: &str| {
            part.starts_with(is_base)
                && part.ends_with(is_base)
                && part.chars().all(|c| is_base(c) || ".-".contains(c))
                && !["--", "..", ".-", "-."].iter().any(|it| part.contains(it))
        };
        match name.split_once('/') {
            Some((owner, repo)) if is_part(owner) && is_part(repo) && name.len() <= 256 => {
                Ok(Self(name.to_owned()))
            }
            _ => Err(Error::Input(format!(
                "{name:?} is no repository of Hugging Face; write owner/repo or owner/repo:quant, such as ggml-org/Qwen3-0.6B-GGUF:Q8_0"
            ))),
        }
    }

    /// The repository whose folder in a cache has this name.
    #[must_use]
    pub fn of_folder(folder: &str) -> Option<Self> {
        let name = folder.strip_prefix("models--")?;
        Self::parse(&name.replacen("--", "/", 1)).ok()
    }

    /// The name of its folder in a cache.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// `owner/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file of a repository that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedFile {
    /// `Q4_K_M`, else `Q8_0`, else the first model.
    Usual,
    /// The first model whose path contains this, in any case, before a dot or a hyphen; if one does as a whole word, the
    /// first that does, so that `F16` is not `BF16`.
    Quant(String),
    /// The file of this path.
    Path(String),
}

/// A model of the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// Its repository.
    pub repo: RepoName,
    /// Its file there.
    pub file: WantedFile,
}

impl HubModel {
    /// Reads `owner/repo`, `owner/repo:quant`, or `owner/repo/path/of/file.gguf`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`], if the repository's name is none.
    pub fn parse(text: &str) -> Result<Self> {
        let second_slash = text.match_indices('/').nth(1);
        let (repo, file) = match (text.split_once(':'), second_slash) {
            (_, Some((slash, _))) => {
                let path = text[slash + 1..].to_owned();
                (&text[..slash], WantedFile::Path(path))
            }
            (Some((repo, quant)), None) if !quant.is_empty() => {
                (repo, WantedFile::Quant(quant.to_owned()))
            }
            (Some((repo, _)), None) => (repo, WantedFile::Usual),
            (None, None) => (text, WantedFile::Usual),
        };
        let repo = RepoName::parse(repo)?;
        Ok(Self { repo, file })
    }

    /// The same repository's file of this path instead, as `--hf-file` names it.
    #[must_use]
    pub fn with_file(self, path: Option<String>) -> Self {
        match path {
            Some(path) => Self {
                file: WantedFile::Path(path),
                ..self
            },
            None => self,
        }
    }
}

impl WantedFile {
    /// The wanted one of `files`, paths in the repository's order; of a model in parts, the first part.
    #[must_use]
    pub fn choose<'a>(&self, files: &[&'a str]) -> Option<&'a str> {
        let models = || files.iter().copied().filter(|file| is_model_file(file));
        let of_quant = |quant: &str| {
            let whole = models().find(|file| has_quant(file, quant, true));
            whole.or_else(|| models().find(|file| has_quant(file, quant, false)))
        };
        match self {
            Self::Usual => {
                let usual = USUAL.iter().find_map(|quant| of_quant(quant));
                usual.or_else(|| models().next())
            }
            Self::Quant(quant) => of_quant(quant),
            Self::Path(path) => files.iter().copied().find(|file| file == path),
        }
    }
}

/// Whether a file's name ends as a GGUF file's.
#[must_use]
pub fn is_gguf(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
}

/// Whether a file with this name is a model that can be named: no image encoder, no draft model of another
/// one, no unfinished download, and of a model in parts the first.
#[must_use]
pub fn is_model_file(name: &str) -> bool {
    const OTHERS: [&str; 6] = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];
    let file = name.rsplit('/').next().unwrap_or(name);
    is_gguf(file)
        && !file.starts_with("incomplete-")
        && !OTHERS.iter().any(|other| file.contains(other))
        && (!is_part(Path::new(file)) || file.contains("-00001-of-"))
}

/// Whether a file's path contains the name of a quantisation before a dot or a hyphen, and, if it has to be `whole`, not
/// within a word.
fn has_quant(file: &str, quant: &str, whole: bool) -> bool {
    let (file, quant) = (file.to_ascii_uppercase(), quant.to_ascii_uppercase());
    let mut places = file.match_indices(&quant);
    places.any(|(at, found)| {
        let is_within = file[..at].ends_with(|c: char| c.is_alphanumeric());
        file[at + found.len()..].starts_with(['.', '-']) && !(whole && is_within)
    })
}

/// The quantisation that a file's name ends with, in capitals.
#[must_use]
pub fn quant_of(file: &str) -> Option<String> {
    let stem = file.rsplit('/').next()?.strip_suffix(".gguf")?;
    let stem = match stem.rsplit_once("-of-") {
        Some((first, _)) => first.strip_suffix("-00001").unwrap_or(stem),
        None => stem,
    };
    let quant = stem.rsplit(['-', '.']).next()?;
    let is_quant = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let has_digit = quant.contains(|c: char| c.is_ascii_digit());
    let known = has_digit && quant.starts_with(|c: char| c.is_ascii_alphabetic());
    (known && quant.chars().all(is_quant)).then(|| quant.to_ascii_uppercase())
}

/// The paths of all parts of the model whose first part, or only file, is `file`.
#[must_use]
pub fn parts_of(file: &str) -> Vec<String> {
    let parts = || {
        let (first, count) = file.strip_suffix(".gguf")?.rsplit_once("-00001-of-")?;
        let n_parts: usize = count.parse().ok().filter(|_| count.len() == 5)?;
        let part = |number| format!("{first}-{number:05}-of-{count}.gguf");
        Some((1..=n_parts).map(part).collect::<Vec<_>>())
    };
    parts()
        .filter(|parts| !parts.is_empty())
        .unwrap_or_else(|| vec![file.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 8] = [
        "README.md",
        "m-BF16-00001-of-00002.gguf",
        "m-BF16-00002-of-00002.gguf",
        "m-Q4_K_M.gguf",
        "m-Q5_K_M-00001-of-00003.gguf",
        "m-Q8_0.gguf",
        "m.IQ3_M.gguf",
        "mmproj-m-Q8_0.gguf",
    ];

    fn chosen(text: &str, files: &[&'static str]) -> Option<&'static str> {
        HubModel::parse(text).unwrap().file.choose(files)
    }

    #[test]
    fn the_file_is_the_one_that_llama_cpp_takes() {
        for (name, file) in [
            ("a/b", Some("m-Q4_K_M.gguf")),
            ("a/b:", Some("m-Q4_K_M.gguf")),
            ("a/b:q8_0", Some("m-Q8_0.gguf")),
            ("a/b:iq3_m", Some("m.IQ3_M.gguf")),
            ("a/b:BF16", Some("m-BF16-00001-of-00002.gguf")),
            ("a/b:Q5_K_M", Some("m-Q5_K_M-00001-of-00003.gguf")),
            ("a/b:Q4_K", None),
            ("a/b:Q2_K", None),
            ("a/b/README.md", Some("README.md")),
            ("a/b/mmproj-m-Q8_0.gguf", Some("mmproj-m-Q8_0.gguf")),
            ("a/b/none.gguf", None),
        ] {
            assert_eq!(chosen(name, &FILES), file, "{name}");
        }
        assert_eq!(chosen("a/b", &FILES[4..]), Some("m-Q8_0.gguf"));
        assert_eq!(chosen("a/b", &FILES[6..]), Some("m.IQ3_M.gguf"));
        assert_eq!(chosen("a/b", &FILES[..3]), Some(FILES[1]));
        assert_eq!(chosen("a/b", &FILES[7..]), None);
        assert_eq!(chosen("a/b:Q4_K_M", &["Q4_K_M/m.gguf"]), None);
    }

    #[test]
    fn names_that_are_no_repositories_are_refused() {
        for name in [
            "b", "a/", "/b", "a/b c", "../b", "a/..", "a//b", "a/b--c", "-a/b", "a/.b", "a/b:x/y",
            "ä/b",
        ] {
            let error = HubModel::parse(name).unwrap_err().to_string();
            assert!(
                error.contains("is no repository of Hugging Face"),
                "{name}: {error}"
            );
        }
        assert_eq!(RepoName::of_folder("datasets--a--b"), None);
        assert_eq!(RepoName::of_folder("models--gpt2"), None);
        let repo = RepoName::of_folder("models--a-x--b.c_d-e").unwrap();
        assert_eq!(
            (repo.as_str(), &*repo.folder()),
            ("a-x/b.c_d-e", "models--a-x--b.c_d-e")
        );
    }

    #[test]
    fn the_quantisation_is_the_last_word_of_a_files_name() {
        for (file, quant) in [
            ("m-Q4_K_M.gguf", Some("Q4_K_M")),
            ("x/m.iq3_xxs.gguf", Some("IQ3_XXS")),
            ("m-BF16-00001-of-00002.gguf", Some("BF16")),
            ("model.gguf", None),
            ("m-7.gguf", None),
            ("README.md", None),
        ] {
            assert_eq!(quant_of(file).as_deref(), quant, "{file}");
        }
    }

    #[test]
    fn a_model_in_parts_has_all_of_them() {
        assert_eq!(
            parts_of("q/m-00001-of-00002.gguf"),
            ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"]
        );
        assert_eq!(parts_of("m.gguf"), ["m.gguf"]);
        assert_eq!(parts_of("m-00001-of-x.gguf"), ["m-00001-of-x.gguf"]);
    }
}
