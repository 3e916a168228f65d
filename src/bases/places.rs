//! The folders in which other programs keep models, by the variables and files that these programs go by themselves.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where Ollama keeps its models when it runs as a service of Linux.
const OLLAMA_SERVICE: &str = "/usr/share/ollama/.ollama/models";

/// The folders of models of other programs. Not all of them exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Caches of Hugging Face's Hub. Downloads go into the first.
    pub hub_caches: Vec<PathBuf>,
    /// The file with the token for Hugging Face's Hub, if a home directory is known.
    pub hub_token: Option<PathBuf>,
    /// Stores of Ollama.
    pub ollama: Vec<PathBuf>,
    /// Folders of LM Studio.
    pub lm_studio: Vec<PathBuf>,
    /// Folders of GPT4All.
    pub gpt4all: Vec<PathBuf>,
}

impl Places {
    /// The places of the operating system's user.
    #[must_use]
    pub fn of_this_user() -> Self {
        Self::of(&|name| std::env::var_os(name), std::env::home_dir())
    }

    /// The places by the variables that `variable` looks up, for a user with this home directory.
    fn of(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let home = home.filter(|home| home.is_absolute());
        let variables = Variables { variable, home };
        let hub_home = variables.hub_home();
        Self {
            hub_caches: variables.hub_caches(hub_home.as_deref()),
            hub_token: variables
                .path("HF_TOKEN_PATH")
                .or_else(|| Some(hub_home?.join("token"))),
            ollama: variables.ollama(),
            lm_studio: variables.lm_studio(),
            gpt4all: variables.gpt4all(),
        }
    }
}

/// The variables of the environment, and the home directory.
struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
}

impl Variables<'_> {
    /// The path in a variable. `~` at its beginning is the home directory; an empty variable counts as none.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from((self.variable)(name).filter(|path| !path.is_empty())?);
        match path.strip_prefix("~") {
            Ok(rest) => self.in_home(rest),
            Err(_) => Some(path),
        }
    }

    fn in_home(&self, rest: impl AsRef<Path>) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(rest))
    }

    /// The folder of everything that Hugging Face's programs keep.
    fn hub_home(&self) -> Option<PathBuf> {
        let cache = || Some(self.path("XDG_CACHE_HOME")?.join("huggingface"));
        let path = self.path("HF_HOME").or_else(cache);
        path.or_else(|| self.in_home(".cache/huggingface"))
    }

    /// The cache of llama.cpp's downloads, if it is one of its own, and the one that Python uses.
    fn hub_caches(&self, hub_home: Option<&Path>) -> Vec<PathBuf> {
        let named = self.path("HF_HUB_CACHE");
        let named = named.or_else(|| self.path("HUGGINGFACE_HUB_CACHE"));
        let python = named.or_else(|| Some(hub_home?.join("hub")));
        distinct([self.path("LLAMA_CACHE"), python])
    }

    fn ollama(&self) -> Vec<PathBuf> {
        match self.path("OLLAMA_MODELS") {
            Some(named) => vec![named],
            None => distinct([self.in_home(".ollama/models"), Some(OLLAMA_SERVICE.into())]),
        }
    }

    /// The models folder in LM Studio's home, and the one that its settings name.
    fn lm_studio(&self) -> Vec<PathBuf> {
        let first_line = |path: PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().next()?.trim().to_owned();
            (!line.is_empty()).then_some(PathBuf::from(line))
        };
        let pointed = self.in_home(".lmstudio-home-pointer").and_then(first_line);
        let older = self.in_home(".cache/lm-studio");
        let home = pointed
            .or_else(|| older.filter(|older| older.is_dir()))
            .or_else(|| self.in_home(".lmstudio"));
        let Some(home) = home else { return Vec::new() };
        // Settings that cannot be read name no folder.
        let settings = fs::read(home.join("settings.json")).unwrap_or_default();
        let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap_or_default();
        let named = settings["downloadsFolder"].as_str().map(PathBuf::from);
        distinct([Some(home.join("models")), named])
    }

    fn gpt4all(&self) -> Vec<PathBuf> {
        let data = self.path("XDG_DATA_HOME");
        let data = data.or_else(|| self.in_home(".local/share"));
        let python = self.in_home(".cache/gpt4all");
        if cfg!(target_os = "macos") {
            let support = self.in_home("Library/Application Support/nomic.ai/GPT4All");
            return distinct([support, python]);
        }
        distinct([data.map(|data| data.join("nomic.ai/GPT4All")), python])
    }
}

/// The paths that there are, each once.
fn distinct(paths: [Option<PathBuf>; 2]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = paths.into_iter().flatten().collect();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of a user whose home is `home`, with these variables.
    fn places(home: &Path, variables: &[(&str, &str)]) -> Places {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Places::of(&variable, Some(home.to_owned()))
    }

    #[test]
    fn without_variables_the_programs_own_folders_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let found = places(home, &[]);
        assert_eq!(found.hub_caches, [home.join(".cache/huggingface/hub")]);
        let token = home.join(".cache/huggingface/token");
        assert_eq!(found.hub_token, Some(token));
        let ollama = [home.join(".ollama/models"), OLLAMA_SERVICE.into()];
        assert_eq!(found.ollama, ollama);
        assert_eq!(found.lm_studio, [home.join(".lmstudio/models")]);
        assert_eq!(Places::of(&|_| None, None).hub_caches, [] as [PathBuf; 0]);
    }

    #[test]
    fn variables_of_hugging_face_name_its_cache_in_its_own_order() {
        let home = Path::new("/h");
        let caches = |variables: &[(&str, &str)]| places(home, variables).hub_caches;
        let all = [
            ("XDG_CACHE_HOME", "/x"),
            ("HF_HOME", "~/f"),
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HUB_CACHE", "/c"),
            ("LLAMA_CACHE", "/l"),
        ];
        assert_eq!(caches(&all[..1]), [Path::new("/x/huggingface/hub")]);
        assert_eq!(caches(&all[..2]), [Path::new("/h/f/hub")]);
        assert_eq!(caches(&all[..3]), [Path::new("/old")]);
        assert_eq!(caches(&all[..4]), [Path::new("/c")]);
        assert_eq!(caches(&all), [Path::new("/l"), Path::new("/c")]);
        assert_eq!(caches(&[("HF_HUB_CACHE", "")]), caches(&[]));
        let token = |variables: &[(&str, &str)]| places(home, variables).hub_token.unwrap();
        assert_eq!(token(&all), Path::new("/h/f/token"));
        assert_eq!(token(&[("HF_TOKEN_PATH", "~/t")]), Path::new("/h/t"));
    }

    #[test]
    fn a_pointer_and_settings_move_the_folders_of_lm_studio() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let older = home.join(".cache/lm-studio");
        fs::create_dir_all(&older).unwrap();
        assert_eq!(places(home, &[]).lm_studio, [older.join("models")]);
        let pointed = home.join("studio");
        fs::create_dir(&pointed).unwrap();
        let pointer = home.join(".lmstudio-home-pointer");
        fs::write(pointer, format!("{}\n", pointed.display())).unwrap();
        fs::write(pointed.join("settings.json"), "{").unwrap();
        assert_eq!(places(home, &[]).lm_studio, [pointed.join("models")]);
        let settings = r#"{"downloadsFolder": "/disk/models"}"#;
        fs::write(pointed.join("settings.json"), settings).unwrap();
        let both = [pointed.join("models"), "/disk/models".into()];
        assert_eq!(places(home, &[]).lm_studio, both);
    }

    #[test]
    fn ollama_and_gpt4all_are_where_their_variables_say() {
        let home = Path::new("/h");
        let found = places(home, &[("OLLAMA_MODELS", "/o"), ("XDG_DATA_HOME", "/d")]);
        assert_eq!(found.ollama, [Path::new("/o")]);
        if !cfg!(target_os = "macos") {
            let data = Path::new("/d/nomic.ai/GPT4All");
            assert_eq!(found.gpt4all, [data, Path::new("/h/.cache/gpt4all")]);
        }
    }
}
