//! The explanation of a prompt's tokens, as if each of them had been chosen.

use super::choose::alternatives;
use super::passes::PromptPart;
use super::{ActiveText, Batch, BatchEvent};
use crate::Result;
use crate::decode::choice::Explainer;
use crate::decode::sampling::best;
use crate::decode::{Candidate, Policy, SequenceSource, Vocabulary, contrast};

impl<S: SequenceSource, V: Vocabulary> Batch<S, V> {
    /// The tokens that all models of `text`, which explains its prompt, read next: as many as a pass keeps rows for.
    pub(super) fn explained_part(&self, text: &ActiveText) -> PromptPart {
        let [prompt, _] = &text.prompts;
        let leader = text.policy.leader();
        let known = self.models.source(*leader).tokens(leader.sequence).len();
        let max_rows = text
            .policy
            .each()
            .map(|slot| self.models.source(*slot).max_rows());
        let end = prompt.len().min(known + max_rows.min().unwrap_or(1));
        let tokens = prompt[known..end].to_vec();
        PromptPart {
            tokens: text.policy.each().map(|_| tokens.clone()).collect(),
            is_last: end == prompt.len(),
        }
    }

    /// Adds the events that explain the tokens of the prompt that follow those of `part`, which the models of the text at
    /// `index` have just read. The request's grammar and biases are for the answer, and do not count here.
    ///
    /// # Errors
    ///
    /// The model's logits are not numbers.
    pub(super) fn explain_prompt(&mut self, index: usize, part: &PromptPart) -> Result<()> {
        let text = &self.texts[index];
        let (true, Some(n_alternatives)) = (text.explains_prompt, text.explained) else {
            return Ok(());
        };
        let leader = *text.policy.leader();
        let user = self.models.source(leader);
        let end = user.tokens(leader.sequence).len();
        let first = end - part.tokens[0].len() + 1;
        for (row, &token) in text.prompts[0][first..]
            .iter()
            .take(end + 1 - first)
            .enumerate()
        {
            let logits = user.logits_at(row);
            contrast::head(logits, text.plausibility, &mut self.candidates)?;
            let likeliest = best(&self.candidates).token;
            let base = match &text.policy {
                Policy::Plain(_) => None,
                Policy::Cope { base, contrast, .. } => {
                    let logits = self.models.source(*base).logits_at(row);
                    let opinion = |it: &Candidate| logits[it.token as usize];
                    self.opinions.clear();
                    self.opinions.extend(self.candidates.iter().map(opinion));
                    contrast.apply(&mut self.candidates, &self.opinions);
                    Some(logits)
                }
            };
            let explainer = Explainer::new(logits, base, self.candidates.len(), likeliest);
            let plausible = self.candidates.iter().find(|it| it.token == token);
            let implausible = Candidate {
                token,
                score: f32::NEG_INFINITY,
            };
            let told = explainer.explain(*plausible.unwrap_or(&implausible));
            let alternatives = alternatives(&self.candidates, n_alternatives, &explainer);
            let event = BatchEvent::Prompt(told, alternatives);
            self.events.push_back((text.id, event));
        }
        Ok(())
    }
}
