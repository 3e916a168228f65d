//! Adds to an error what a person at the command line can do about it. The library's messages say what is wrong and name
//! no commands or options.

use std::io::ErrorKind;
use std::path::Path;

use cope_llama::Error;
use cope_llama::bases;
use cope_llama::error::{CpuWork, MemoryUser, Missing, Unspecified};
use cope_llama::home::UserName;

/// The error with its causes on one line, followed by a hint where there is one.
pub fn with_hint(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    let of_cause = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
        Some(error) => hint(error),
        None => for_file(cause.downcast_ref()?),
    };
    match error.chain().find_map(of_cause) {
        Some(hint) if message.ends_with('?') => format!("{message} {hint}"),
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Convert(error) => for_file(error),
        Error::Io { path, source, .. } if source.kind() == ErrorKind::NotFound => pull(path),
        Error::Missing(missing) => for_missing(missing),
        Error::Unspecified(unspecified) => Some(for_unspecified(unspecified)),
        Error::PromptTooLong { .. } => Some("--ctx-size sets the size of the context".into()),
        Error::Memory { .. } => Some("raise --memory, or lower --ctx-size or --parallel".into()),
        Error::NoRoom { user, .. } => Some(for_no_room(user).into()),
        Error::NoKeys(_) => Some("`cope-llama user key --admin` makes one".into()),
        _ => None,
    }
}

/// How to take less of the memory that is not free.
fn for_no_room(user: &MemoryUser) -> &'static str {
    match user {
        MemoryUser::Context { n_sequences: 1, .. } => {
            "lower -c (--ctx-size), use `--cache-type q8_0`, or close other programs"
        }
        MemoryUser::Context { .. } => {
            "lower -c (--ctx-size) or --parallel, or close other programs"
        }
        MemoryUser::SavedCache { .. } => "leave out --prompt-cache, or close other programs",
        MemoryUser::Training => {
            "add --weights quantized --recompute, use a smaller --micro-batch-size, or close other programs"
        }
        _ => "use a smaller model (`cope-llama model list`), or close other programs",
    }
}

fn for_file(error: &cope_convert::Error) -> Option<String> {
    match error {
        cope_convert::Error::Missing { path } => pull(path),
        cope_convert::Error::Format { path, format, .. } if *format == "GGUF" => convert(path),
        _ => None,
    }
}

/// How to make a GGUF file of an adapter in another format.
fn convert(path: &Path) -> Option<String> {
    let is_adapter = path.join("adapter_config.json").exists()
        || path
            .extension()
            .is_some_and(|ending| ending == "safetensors");
    is_adapter.then(|| {
        format!(
            "`cope-llama convert adapter {} adapter.gguf --base MODEL.gguf` converts an adapter of PEFT or MLX",
            path.display()
        )
    })
}

/// How to get a base of the list that is not there.
fn pull(path: &Path) -> Option<String> {
    let file = path.file_name()?;
    let listed = bases::all()
        .into_iter()
        .find(|it| file == it.file.as_str())?;
    Some(format!(
        "`cope-llama model pull {}` downloads it",
        listed.name
    ))
}

fn for_missing(missing: &Missing) -> Option<String> {
    Some(match missing {
        Missing::User { name, .. } if name.eq_ignore_ascii_case(UserName::BASE) => {
            format!("{name} stands for the base model, which answers where no user is named")
        }
        Missing::User { name, .. } => {
            format!("`cope-llama user import {name} FILE` makes this user")
        }
        Missing::Adapter { user } | Missing::Manifest { user } => {
            format!("run `cope-llama train {user}`")
        }
        Missing::History { user } => format!("`cope-llama user import {user} FILE` adds texts"),
        Missing::Task { name } => format!("`cope-llama train-task {name} FILE…` trains it"),
        Missing::TaskAdapter { user, .. } => format!("run `cope-llama train {user} --task NAME`"),
        Missing::StartAdapter { user } => {
            format!("run `cope-llama train {user}`, with --from NAME or without")
        }
        // The message of the others says all there is to know.
        _ => return None,
    })
}

fn for_unspecified(unspecified: &Unspecified) -> String {
    match unspecified {
        Unspecified::Author { .. } => "name the author with --author NAME".into(),
        Unspecified::LampUser { .. } => "name one with --lamp-user".into(),
        Unspecified::Columns { .. } => "name them with --columns PROMPT,RESPONSE".into(),
        Unspecified::BaseName { .. } => "Name it with --base-name OWNER/MODEL".into(),
        Unspecified::CpuOnly { work, device } => {
            let instead = match work {
                CpuWork::Recompute => "leave out --recompute",
                CpuWork::QuantizedWeights => "use --weights bf16",
            };
            format!("{instead}, or use --device cpu instead of {device}")
        }
        _ => "use the default, `--device cpu`".into(),
    }
}

#[cfg(test)]
mod tests {
    use cope_llama::error::TextCounts;

    use super::*;

    fn no_user(name: &str) -> Error {
        Error::from(Missing::User {
            name: name.into(),
            known: Vec::new(),
        })
    }

    #[test]
    fn an_error_its_causes_and_the_hint_are_one_line() {
        let path = || "a.file".into();
        let author = Error::from(Unspecified::Author {
            path: path(),
            texts: "commits".into(),
            people: TextCounts::default(),
        });
        let columns = Error::from(Unspecified::Columns {
            path: path(),
            known: vec!["one".into(), "two".into()],
        });
        let lamp_user = Error::from(Unspecified::LampUser {
            path: path(),
            asked: None,
            ids: vec!["7".into(), "8".into()],
        });
        let cpu_only = Error::from(Unspecified::CpuOnly {
            work: CpuWork::Recompute,
            device: "cuda".into(),
        });
        let user = "ann".to_owned();
        for (error, hint) in [
            (author, "name the author with --author NAME"),
            (columns, "name them with --columns PROMPT,RESPONSE"),
            (lamp_user, "name one with --lamp-user"),
            (
                cpu_only,
                "leave out --recompute, or use --device cpu instead of cuda",
            ),
            (
                Missing::Adapter { user: user.clone() }.into(),
                "run `cope-llama train ann`",
            ),
            (
                Missing::History { user }.into(),
                "`cope-llama user import ann FILE` adds texts",
            ),
            (
                Missing::Task { name: "t".into() }.into(),
                "`cope-llama train-task t FILE…` trains it",
            ),
            (
                no_user("ann"),
                "`cope-llama user import ann FILE` makes this user",
            ),
            (
                no_user("Base"),
                "Base stands for the base model, which answers where no user is named",
            ),
        ] {
            let message = error.to_string();
            let shown = with_hint(&anyhow::Error::from(error).context("while trying"));
            let separator = if message.ends_with('?') { "" } else { ";" };
            assert_eq!(shown, format!("while trying: {message}{separator} {hint}"));
            assert!(!shown.contains('\n'), "{shown}");
        }
    }

    #[test]
    fn a_context_that_does_not_fit_can_be_made_smaller() {
        for (n_sequences, hint) in [
            (
                1,
                "; lower -c (--ctx-size), use `--cache-type q8_0`, or close other programs",
            ),
            (
                4,
                "; lower -c (--ctx-size) or --parallel, or close other programs",
            ),
        ] {
            let n_ctx = 512;
            let user = MemoryUser::Context { n_ctx, n_sequences };
            let (needed, free) = (2 << 20, 1 << 20);
            let shown = with_hint(&Error::NoRoom { user, needed, free }.into());
            assert!(shown.ends_with(hint), "{shown}");
        }
    }

    #[test]
    fn a_base_of_the_list_that_is_not_there_can_be_pulled() {
        let missing = |file: &str| Error::Io {
            operation: "open",
            path: Path::new("models").join(file),
            source: ErrorKind::NotFound.into(),
        };
        let listed = bases::default_base();
        let shown = with_hint(&anyhow::Error::from(missing(&listed.file)));
        let pull = format!("`cope-llama model pull {}` downloads it", listed.name);
        assert!(shown.ends_with(&format!("; {pull}")), "{shown}");
        assert_eq!(hint(&missing("another.gguf")), None);
    }
}
