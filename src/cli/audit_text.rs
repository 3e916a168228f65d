//! The sentence about an audit that is shown before an adapter leaves the machine.

use cope_llama::home::{AuditRecord, GivenBack};

/// One line about an adapter that is about to leave the machine.
pub fn summary(record: &AuditRecord) -> String {
    let GivenBack { n_texts, any, .. } = record.trained;
    let membership = record.membership.map_or(String::new(), |it| {
        format!(
            ", and trained texts are told from others by {:.2} (0.5: not at all, 1: always)",
            it.by_gain.value
        )
    });
    format!(
        "by its audit, the adapter gives back {} tokens or more of {} of {n_texts} texts that it was trained on (the base: {}){membership}",
        GivenBack::N_TOKENS,
        any.user,
        any.base,
    )
}
