//! The options of an import, as the page gives them.

use serde::Deserialize;

use crate::profile::{HistoryPart, ImportOptions, Masking, Speaker};

/// Facts that a file itself does not state, as a request gives them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadOptions {
    pub author: Vec<String>,
    pub speaker: Option<Speaker>,
    pub lamp_user: Option<String>,
    pub columns: Option<[String; 2]>,
    pub keep_secrets: bool,
    pub keep_signature: bool,
    /// Whether the texts are to be held out.
    pub held_out: bool,
}

impl UploadOptions {
    /// The part of the history that the texts are for.
    pub fn part(&self) -> HistoryPart {
        if self.held_out {
            HistoryPart::HeldOut
        } else {
            HistoryPart::History
        }
    }

    /// The options of an import.
    pub fn import_options(&self) -> ImportOptions {
        ImportOptions {
            lamp_user: self.lamp_user.clone(),
            authors: self.author.clone(),
            columns: self.columns.clone(),
            speaker: self.speaker,
            keep_signature: self.keep_signature,
            masking: Masking {
                keeps_secrets: self.keep_secrets,
                own_addresses: self.author.clone(),
                ..Masking::default()
            },
        }
    }
}
