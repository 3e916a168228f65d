//! What a person at the command line can do about an error: the library says what is wrong, and names no options.

use cope_llama::Error;
use cope_llama::error::{CpuWork, Missing, Unspecified};

/// The error on one line, with what to do about it where the command line knows.
pub fn with_hint(error: &anyhow::Error) -> String {
    match error.chain().find_map(|cause| hint(cause.downcast_ref()?)) {
        Some(hint) => format!("{error:#}; {hint}"),
        None => format!("{error:#}"),
    }
}

fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Missing(missing) => Some(for_missing(missing)),
        Error::Unspecified(unspecified) => Some(for_unspecified(unspecified)),
        Error::PromptTooLong { .. } => Some("--ctx-size makes the context larger".into()),
        Error::Memory { .. } => {
            Some("give more --memory, or a smaller --ctx-size or --parallel".into())
        }
        Error::NoKeys(_) => Some("make one with `cope-llama user key --admin`".into()),
        _ => None,
    }
}

fn for_missing(missing: &Missing) -> String {
    match missing {
        Missing::User { name, .. } => format!("`cope-llama user import {name} FILE` makes one"),
        Missing::Adapter { user } | Missing::Manifest { user } => {
            format!("run `cope-llama train {user}`")
        }
        Missing::History { user } => format!("`cope-llama user import {user} FILE` adds to it"),
        Missing::Task { name } => format!("`cope-llama train-task {name} FILE…` makes it"),
        Missing::TaskAdapter { user, .. } => format!("run `cope-llama train {user} --task NAME`"),
        _ => "`cope-llama model list` shows them".into(),
    }
}

fn for_unspecified(unspecified: &Unspecified) -> String {
    match unspecified {
        Unspecified::Author { .. } => "name the author with --author".into(),
        Unspecified::LampUser { .. } => "name one with --lamp-user".into(),
        Unspecified::Columns { .. } => "name them with --columns PROMPT,RESPONSE".into(),
        Unspecified::CpuOnly { work, device } => {
            let instead = match work {
                CpuWork::Recompute => "leave out --recompute",
                CpuWork::QuantizedWeights => "use --weights bf16",
            };
            format!("{instead}, or use --device cpu instead of {device}")
        }
        _ => "the default, `--device cpu`, needs none".into(),
    }
}
