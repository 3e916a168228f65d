//! The passes of a batch: over prompts, and over the newest token of each text.

use super::slots::Slot;
use super::{ActiveText, Batch, n_keepable};
use crate::Result;
use crate::decode::schedule::{MAX_BESIDE, beside};
use crate::decode::{Policy, Rows, SequenceSource, Vocabulary};
use crate::llama::Token;

/// On a CPU two models side by side read fewer tokens than this faster one after the other than together.
const WIDE: usize = 5;

/// The tokens of a prompt that the models of a text read in their next passes.
pub(super) struct PromptPart {
    /// Each model's tokens, the leader's first; there may be none.
    pub tokens: Vec<Vec<Token>>,
    /// Whether all models reach the ends of their prompts.
    pub is_last: bool,
}

impl<S: SequenceSource, V: Vocabulary> Batch<S, V> {
    /// Reads the next parts of the prompts, the oldest first, and chooses the first token after each prompt that is read.
    pub(super) fn read_prompts(&mut self) -> Result<()> {
        let mut n_read = 0;
        let mut index = 0;
        while n_read < self.n_prompt && index < self.texts.len() {
            if self.texts[index].newest.is_some() {
                index += 1;
                continue;
            }
            let part = self.prompt_part(index);
            n_read += part.tokens.iter().map(Vec::len).max().unwrap_or_default();
            if let Err(error) = self.read_part(index, &part) {
                self.fail(index, error)?;
            } else if let Err(error) = self.explain_prompt(index, &part) {
                self.fail(index, error)?;
            } else if part.is_last && !self.go_on(index)? {
                index += 1;
            }
        }
        Ok(())
    }

    /// The tokens that each model of the text at `index` reads next of its prompt.
    fn prompt_part(&self, index: usize) -> PromptPart {
        let text = &self.texts[index];
        if text.explains_prompt {
            return self.explained_part(text);
        }
        let n_known = |slot: &Slot| self.models.source(*slot).tokens(slot.sequence).len();
        let is_last = text
            .readers()
            .all(|(slot, prompt)| n_known(slot) >= n_keepable(prompt));
        let tokens = |(slot, prompt): (&Slot, &[Token])| {
            let known = n_known(slot);
            let end = if is_last {
                prompt.len()
            } else {
                n_keepable(prompt).min(known + self.models.source(*slot).n_batch())
            };
            prompt[known..end].to_vec()
        };
        PromptPart {
            tokens: text.readers().map(tokens).collect(),
            is_last,
        }
    }

    /// Runs a pass of each model of the text at `index` over its part of the prompt.
    fn read_part(&mut self, index: usize, part: &PromptPart) -> Result<()> {
        let text = &self.texts[index];
        let sequences: Vec<_> = text.policy.each().map(|slot| slot.sequence).collect();
        let rows = self.rows(text);
        let explains_prompt = text.explains_prompt;
        let n_tokens = part.tokens.iter().map(Vec::len).max();
        self.pass(index, n_tokens.unwrap_or_default(), |source, number| {
            let tokens = &part.tokens[number];
            if tokens.is_empty() {
                return Ok(());
            }
            if explains_prompt {
                return source.read_each(sequences[number], tokens);
            }
            // The output head is needed after the last part alone.
            source.read(
                sequences[number],
                tokens,
                part.is_last.then_some(rows[number]),
            )
        })
    }

    /// Reads the newest token of each text, and chooses the next.
    pub(super) fn step(&mut self) -> Result<()> {
        let n_running = self.texts.iter().filter(|it| it.newest.is_some()).count();
        let one_by_one = self.schedule.side_by_side && n_running < WIDE;
        if !one_by_one {
            self.step_together()?;
        }
        let mut index = 0;
        while index < self.texts.len() {
            if self.texts[index].newest.is_none() {
                index += 1;
            } else if one_by_one && let Err(error) = self.step_one(index) {
                self.fail(index, error)?;
            } else if !self.go_on(index)? {
                index += 1;
            }
        }
        Ok(())
    }

    /// Runs a pass of each model of the text at `index` over the text's newest token.
    fn step_one(&mut self, index: usize) -> Result<()> {
        let text = &self.texts[index];
        let sequences: Vec<_> = text.policy.each().map(|slot| slot.sequence).collect();
        let newest = text.newest;
        let rows = self.rows(text);
        self.pass(index, 1, |source, number| {
            let items: Vec<_> = newest.iter().map(|&it| (sequences[number], it)).collect();
            source.step(&items, rows[number])
        })
    }

    /// Runs a pass of each model over the newest tokens of all its texts. A pass that fails ends these texts, whose sequences
    /// it leaves empty, before the next model's pass.
    fn step_together(&mut self) -> Result<()> {
        for model in self.models.ids() {
            let mut items = Vec::new();
            let mut rows = Rows::Candidates;
            for text in &self.texts {
                let Some(newest) = text.newest else {
                    continue;
                };
                let slots = text.policy.each().enumerate();
                for (number, slot) in slots.filter(|(_, slot)| slot.model == model) {
                    items.push((slot.sequence, newest));
                    if self.rows(text)[number] == Rows::Full {
                        rows = Rows::Full;
                    }
                }
            }
            if items.is_empty() {
                continue;
            }
            items.sort_unstable();
            let source = &mut self.models.get_mut(model).source;
            source.share_threads(1);
            if let Err(error) = source.step(&items, rows) {
                let uses_model = |text: &ActiveText| text.policy.each().any(|it| it.model == model);
                self.fail_each(|text| text.newest.is_some() && uses_model(text), &error)?;
            }
        }
        Ok(())
    }

    /// The rows that the models of `text` keep, the leader's first: a base is asked for the candidates alone, unless its
    /// choices are explained.
    fn rows(&self, text: &ActiveText) -> [Rows; 2] {
        if self.schedule.lean && text.explained.is_none() {
            [Rows::Full, Rows::Candidates]
        } else {
            [Rows::Full, Rows::Full]
        }
    }

    /// Runs `read`, a pass over `n_tokens`, with each model of the text at `index`, side by side if the schedule says so and
    /// the tokens are few. `read` gets the model and its number: 0 for the leader, 1 for the base that it is contrasted
    /// with.
    fn pass(
        &mut self,
        index: usize,
        n_tokens: usize,
        read: impl Fn(&mut S, usize) -> Result<()> + Sync,
    ) -> Result<()> {
        let policy = self.texts[index].policy;
        match policy {
            Policy::Cope { base, user, .. }
                if self.schedule.side_by_side && n_tokens <= MAX_BESIDE =>
            {
                let [base, user] = self.models.both_mut(base, user);
                base.share_threads(2);
                user.share_threads(2);
                beside(|| read(base, 1), || read(user, 0))
            }
            _ => {
                // The base reads first, as in the side-by-side case.
                let slots: Vec<_> = policy.each().enumerate().collect();
                for (number, slot) in slots.into_iter().rev() {
                    let source = self.models.source_mut(*slot);
                    source.share_threads(1);
                    read(source, number)?;
                }
                Ok(())
            }
        }
    }
}
