//! The one error of the library. Its variants say whose fault it is, so that a front end can choose an exit code or an
//! HTTP status without reading the text; [`Error::fault`] sums that up.
//!
//! Messages say what is wrong and where. What to do about it depends on the front end (an option of the command line, a
//! field of a request), so the front ends add that in their own words.

mod text_counts;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use text_counts::TextCounts;
pub(crate) use text_counts::{is_mark, shown};

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the library. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// A verb: `read`, `write`, `rename`, …
        operation: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A GGUF file or an adapter is malformed, or does not fit its base.
    #[error(transparent)]
    Convert(#[from] cope_convert::Error),
    /// The contrast of two models was given settings out of their range, or logits that are not numbers.
    #[error(transparent)]
    Contrast(#[from] cope_contrast::Error),
    /// Something that a person gave (a file, a name, a setting) cannot be used.
    #[error("{0}")]
    Input(String),
    /// A file or a setting leaves a choice open that only the person can make.
    #[error(transparent)]
    Unspecified(#[from] Unspecified),
    /// A prompt has more tokens than the context has room for.
    #[error(
        "the prompt has {n_prompt} tokens and the context {n_ctx}; shorten the prompt, or make the context larger"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Room in the context, in tokens.
        n_ctx: usize,
    },
    /// Something that a person named does not exist, or does not exist yet.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A file that this program wrote itself cannot be read any more.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The flaw, and what to do about it.
        reason: String,
    },
    /// Another process is importing or training the user or task of this name.
    #[error("another cope-llama is importing or training {0}; wait until it has ended")]
    Locked(String),
    /// The machine lacks something: a thread, a port, a device.
    #[error("{0}")]
    Lack(String),
    /// The contexts that a text needs take more memory than all contexts together may.
    #[error("the contexts of one text take {} MiB and all contexts together may take {} MiB", needed >> 20, limit >> 20)]
    Memory {
        /// Bytes that the text's contexts and adapters take.
        needed: u64,
        /// Bytes that all contexts and adapters may take.
        limit: u64,
    },
    /// The machine has less free memory than something needs that was not made yet.
    #[error("{user} takes {} MiB, and {} MiB of memory are free", needed.div_ceil(1 << 20), free >> 20)]
    NoRoom {
        /// The thing that needs the memory.
        user: MemoryUser,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A server that other machines could reach was started without any keys, so that anybody could use it.
    #[error("{0} can be reached by other machines, and there are no keys yet")]
    NoKeys(SocketAddr),
    /// llama.cpp refused an operation on files that passed our checks.
    #[error("llama.cpp failed to {operation}{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    Llama {
        /// A verb phrase: `load the model …`, `decode 12 tokens`, …
        operation: String,
        /// The last error that llama.cpp logged, or an explanation of its return code; may be empty.
        reason: String,
    },
    /// A chat template could not be rendered.
    #[error("the model's chat template failed: {0}")]
    Template(String),
    /// A tensor operation of training failed.
    #[error("training failed: {0}")]
    Train(String),
    /// An invariant of this program was broken.
    #[error("{0}; this is a bug of cope-llama")]
    Bug(String),
    /// The person stopped the work (Ctrl-C); finished parts are kept.
    #[error("stopped; what was finished is kept, and the same command goes on from there")]
    Interrupted,
}

/// Something that takes memory, as the subject of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryUser {
    /// The weights that are not mapped from their file, since this CPU computes faster with another layout of them.
    Weights {
        /// The model's file.
        path: PathBuf,
    },
    /// A context, with the caches of all its sequences.
    Context {
        /// The most tokens of one sequence.
        n_ctx: u32,
        /// The number of sequences.
        n_sequences: u32,
    },
    /// A copy of a context's cache, for a file.
    SavedCache {
        /// The number of tokens in it.
        n_tokens: usize,
    },
    /// A training, at its peak.
    Training,
}

impl fmt::Display for MemoryUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weights { path } => {
                write!(f, "the layout of {}'s weights for this CPU", path.display())
            }
            Self::Context {
                n_ctx,
                n_sequences: 1,
            } => write!(f, "a context of {n_ctx} tokens"),
            Self::Context { n_ctx, n_sequences } => {
                write!(f, "a context of {n_sequences} texts of {n_ctx} tokens each")
            }
            Self::SavedCache { n_tokens } => {
                write!(f, "saving the cache of {n_tokens} tokens")
            }
            Self::Training => f.write_str("the training"),
        }
    }
}

/// The cause of an [`Error`], for exit codes and HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The person's input cannot be used.
    Input,
    /// The person named something that does not exist.
    Missing,
    /// Other work is in the way; the same request succeeds later.
    Conflict,
    /// The machine lacks memory, a thread, a port or a device.
    Lack,
    /// This program, a file that it wrote or a library has failed.
    Internal,
    /// The work was stopped on request.
    Interrupted,
}

/// Something that a person named and that does not exist, or does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// There is no user of this name.
    #[error("no user {name}, {}", listed(known))]
    User {
        /// The name.
        name: String,
        /// The users that exist.
        known: Vec<String>,
    },
    /// The user has no adapter: they were not trained yet.
    #[error("{user} is not trained yet")]
    Adapter {
        /// The user's name.
        user: String,
    },
    /// There is no adapter of an earlier training to put back.
    #[error("{user} has no adapter of an earlier training")]
    PreviousAdapter {
        /// The user's name.
        user: String,
    },
    /// The user has an adapter and no record of its training.
    #[error("{user}'s adapter has no manifest")]
    Manifest {
        /// The user's name.
        user: String,
    },
    /// The user or task has no texts to train on.
    #[error("{user} has no history to train on")]
    History {
        /// The user's or the task's name.
        user: String,
    },
    /// There is no saved chat of this name.
    #[error("no saved chat {name}, {}", listed(known))]
    Chat {
        /// The name.
        name: String,
        /// The saved chats that exist.
        known: Vec<String>,
    },
    /// There is no task of this name.
    #[error("there is no task '{name}'")]
    Task {
        /// The name.
        name: String,
    },
    /// The task adapter that a user's adapter was trained on top of is gone, or another.
    #[error("{} is not the task adapter that {user}'s was trained on top of", path.display())]
    TaskAdapter {
        /// Its place in the user's folder.
        path: PathBuf,
        /// The user's name.
        user: String,
    },
    /// The adapter of another user that a training starts from is gone, or another. The message does not name that user,
    /// since the page shows it to this one.
    #[error("the adapter that {user}'s training starts from is gone or has changed")]
    StartAdapter {
        /// The user's name.
        user: String,
    },
    /// No base model has this name.
    #[error("no base model {name:?} in the list; there are {}", known.join(", "))]
    Base {
        /// The name.
        name: String,
        /// The names of the list.
        known: Vec<String>,
    },
}

/// A choice that a file or a setting leaves open, and that only a person can make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unspecified {
    /// The author whose texts in chats, a mailbox, a repository or a folder of posts are the user's own.
    #[error("{}: whose {texts} are the user's own?{}", path.display(), if people.0.is_empty() { String::new() } else { format!(" They are by {people}") })]
    Author {
        /// The file or folder.
        path: PathBuf,
        /// The kind of texts in it: `messages`, `mails`, `commits` or `posts`.
        texts: String,
        /// The people who wrote some, as far as they were counted.
        people: TextCounts,
    },
    /// The user of a LaMP file that holds several.
    #[error("{}: {}holds {} users ({}, …)", path.display(), asked.as_ref().map(|id| format!("has no user {id:?}; it ")).unwrap_or_default(), ids.len(), ids.iter().take(3).cloned().collect::<Vec<_>>().join(", "))]
    LampUser {
        /// The file.
        path: PathBuf,
        /// The id that the person asked for, if any.
        asked: Option<String>,
        /// The ids of the users in the file.
        ids: Vec<String>,
    },
    /// The columns of a table that hold prompts and responses.
    #[error("{}: which columns hold the prompts and the responses? it has {}", path.display(), known.join(", "))]
    Columns {
        /// The file.
        path: PathBuf,
        /// The names of its columns.
        known: Vec<String>,
    },
    /// The name under which transformers finds a base, which its file does not tell.
    #[error("{}: under which name does transformers find this model?", path.display())]
    BaseName {
        /// The base's file.
        path: PathBuf,
    },
    /// Work that only the CPU does was asked of another device.
    #[error("{work} on the CPU alone, and not on {device}")]
    CpuOnly {
        /// The work that only the CPU does.
        work: CpuWork,
        /// The device that was asked for.
        device: String,
    },
    /// The device to train on does not exist, or this build cannot use it.
    #[error("{device} cannot be trained on ({reason})")]
    Device {
        /// The device that was asked for.
        device: String,
        /// candle's reason.
        reason: String,
    },
}

/// Work of training that only the CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuWork {
    /// Weights stay in the types of their file.
    QuantizedWeights,
    /// Activations are recomputed in the backward pass.
    Recompute,
}

impl fmt::Display for CpuWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuantizedWeights => "weights stay quantised",
            Self::Recompute => "activations are recomputed",
        })
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "there are none yet".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

impl Error {
    /// A function that makes an [`Error::Io`], for `map_err`.
    pub fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// An [`Error::Input`] from anything that displays.
    pub fn input(message: impl fmt::Display) -> Self {
        Self::Input(message.to_string())
    }

    /// An [`Error::Lack`] from anything that displays.
    pub fn lack(message: impl fmt::Display) -> Self {
        Self::Lack(message.to_string())
    }

    /// The error for a thread that the system does not start, with its reason.
    pub fn no_thread(reason: impl fmt::Display) -> Self {
        Self::lack(format_args!(
            "a thread cannot be started ({reason}); raise the limit on processes (ulimit -u) or on memory, or end other programs"
        ))
    }

    /// An [`Error::Bug`] from anything that displays.
    pub fn bug(message: impl fmt::Display) -> Self {
        Self::Bug(message.to_string())
    }

    /// The cause of the error.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Input(_)
            | Self::Unspecified(_)
            | Self::PromptTooLong { .. }
            | Self::Contrast(
                cope_contrast::Error::Contrast(_) | cope_contrast::Error::Plausibility(_),
            )
            | Self::Template(_)
            | Self::NoKeys(_) => Fault::Input,
            Self::Missing(_) => Fault::Missing,
            Self::Locked(_) => Fault::Conflict,
            Self::Lack(_) | Self::Memory { .. } | Self::NoRoom { .. } => Fault::Lack,
            Self::Io { .. }
            | Self::Convert(_)
            // The model's logits have no number above −∞.
            | Self::Contrast(_)
            | Self::Damaged { .. }
            | Self::Llama { .. }
            | Self::Train(_)
            | Self::Bug(_) => Fault::Internal,
            Self::Interrupted => Fault::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_gives_the_fault() {
        let missing = Missing::Task { name: "t".into() };
        for (error, fault) in [
            (Error::input("no"), Fault::Input),
            (missing.into(), Fault::Missing),
            (Error::Locked("ann".into()), Fault::Conflict),
            (Error::lack("no thread"), Fault::Lack),
            (Error::Train("NaN".into()), Fault::Internal),
            (cope_contrast::Error::Contrast(-1.0).into(), Fault::Input),
            (cope_contrast::Error::NoCandidate.into(), Fault::Internal),
            (Error::bug("out of step"), Fault::Internal),
            (Error::Interrupted, Fault::Interrupted),
        ] {
            assert_eq!(error.fault(), fault, "{error}");
        }
    }

    #[test]
    fn the_error_of_missing_memory_says_what_takes_it() {
        let message = |user| {
            let (needed, free) = ((3 << 20) + 1, (3 << 20) - 1);
            Error::NoRoom { user, needed, free }.to_string()
        };
        let context = |n_sequences| MemoryUser::Context {
            n_ctx: 512,
            n_sequences,
        };
        for (user, subject) in [
            (context(1), "a context of 512 tokens"),
            (context(4), "a context of 4 texts of 512 tokens each"),
            (
                MemoryUser::Weights {
                    path: "m.gguf".into(),
                },
                "the layout of m.gguf's weights for this CPU",
            ),
            (MemoryUser::Training, "the training"),
            (
                MemoryUser::SavedCache { n_tokens: 7 },
                "saving the cache of 7 tokens",
            ),
        ] {
            let expected = format!("{subject} takes 4 MiB, and 2 MiB of memory are free");
            assert_eq!(message(user), expected);
        }
    }

    #[test]
    fn the_error_of_a_missing_user_lists_the_users() {
        let missing = |known: &[&str]| Missing::User {
            name: "bob".into(),
            known: known.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(missing(&[]).to_string(), "no user bob, there are none yet");
        assert_eq!(
            missing(&["ann", "eve"]).to_string(),
            "no user bob, there are: ann, eve"
        );
    }
}
