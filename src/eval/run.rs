//! Answers what has not been answered yet, training adapters on the way.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::adapters::Adapters;
use super::before;
use super::method::{Before, Decoding, Method, Weights};
use super::retrieve::Retriever;
use super::rouge::Rouge;
use super::store::{Answers, Prediction, Store};
use super::study::{Study, StudyTask};
use super::writer::{Voice, Writer, Written};
use crate::decode::{Contrast, Finish};
use crate::profile::Example;
use crate::profile::lamp::Query;
use crate::train::{self, Stage};
use crate::{Error, Result};

/// What is computed, kept and gone on with as a whole: a method's answers to a user's queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Number of the task in the study.
    pub task: usize,
    /// Number of the user in the task.
    pub user: usize,
    /// Who answers.
    pub method: Method,
    /// Hash of all that the answers depend on.
    pub key: String,
}

/// A share of the work: the users of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All of the work.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Part `index`, from 0, of `count`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is no such part.
    pub fn new(index: usize, count: usize) -> Result<Self> {
        if index < count {
            return Ok(Self { index, count });
        }
        Err(Error::input(format!(
            "there is no part {index}/{count} of the work: the first is 0/{count}, the last {}/{count}",
            count.saturating_sub(1)
        )))
    }
}

/// What has just happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The work begins.
    Started {
        /// Units in all.
        total: usize,
        /// Units that were done before.
        done: usize,
    },
    /// Something of a training.
    Training {
        /// Whose adapter it is: a task's name, and a user's id.
        whose: &'a str,
        /// What.
        event: train::Event,
    },
    /// A unit is done.
    Answered {
        /// The answers.
        answers: &'a Answers,
        /// Units that are done.
        done: usize,
    },
}

/// Told of every event; an error that it returns stops the work.
pub type Observer<'a> = &'a mut (dyn FnMut(Event) -> Result<()> + Send);

/// The most tokens of what the base says of a user.
const DESCRIPTION_TOKENS: usize = 160;

/// The newest items of the history that it is told, at most.
const DESCRIBED_ITEMS: usize = 10;

/// The units of `methods` in a study, user by user. A task of one user has no other whose adapter could be the control.
#[must_use]
pub fn units(study: &Study, methods: &[Method], shard: Shard) -> Vec<Unit> {
    let tasks = study.tasks.iter().enumerate();
    let users: Vec<_> = tasks
        .flat_map(|(number, task)| (0..task.users.len()).map(move |user| (number, task, user)))
        .collect();
    // Neighbours, since a user's adapter is the control of the one before.
    let first = |index| users.len() * index / shard.count;
    let of_shard = &users[first(shard.index)..first(shard.index + 1)];
    let unit = |&(number, task, user): &(usize, &StudyTask, usize), &method: &Method| Unit {
        task: number,
        user,
        method,
        key: study.answers_key(task, user, method),
    };
    let of_user = |it| methods.iter().map(move |method| unit(it, method));
    let is_possible =
        |unit: &Unit| unit.method != Method::OtherUser || study.tasks[unit.task].users.len() > 1;
    of_shard
        .iter()
        .flat_map(of_user)
        .filter(is_possible)
        .collect()
}

/// Brings `units` of a study up to date. `stop`, once true, ends the work between two tokens; what is done is kept.
///
/// # Errors
///
/// As of training and decoding, and [`Error::Interrupted`].
pub fn run(
    study: &Study,
    store: &Store,
    units: &[Unit],
    stop: &Arc<AtomicBool>,
    observe: Observer,
) -> Result<()> {
    let mut missing = Vec::new();
    for unit in units {
        if store.answers(&unit.key)?.is_none() {
            missing.push(unit);
        }
    }
    let (total, mut done) = (units.len(), units.len() - missing.len());
    observe(Event::Started { total, done })?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut runner = Runner {
        study,
        store,
        writer: Writer::load(&study.base_path, &study.base, stop)?,
        adapters: Adapters {
            study,
            store,
            stop,
            observe,
        },
    };
    for unit in missing {
        let answers = runner.answers(unit)?;
        store.keep_answers(&answers)?;
        done += 1;
        let answers = &answers;
        (runner.adapters.observe)(Event::Answered { answers, done })?;
    }
    Ok(())
}

struct Runner<'a, 'o> {
    study: &'a Study,
    store: &'a Store,
    writer: Writer<'a>,
    adapters: Adapters<'a, 'o>,
}

impl Runner<'_, '_> {
    fn answers(&mut self, unit: &Unit) -> Result<Answers> {
        let task = &self.study.tasks[unit.task];
        let user = &task.users[unit.user];
        let (weights, before, decoding) = unit.method.parts();
        let description = match before {
            Before::DescriptionAndItems => Some(self.description(task, unit.user)?),
            _ => None,
        };
        let retriever = (before != Before::Nothing).then(|| Retriever::new(&user.history));
        let contrast = (decoding != Decoding::Alone)
            .then(|| {
                let contrast = task.settings.contrast_of(unit.method);
                Contrast::new(contrast, task.settings.plausibility)
            })
            .transpose()?;
        let mut voice = self.voice(task, unit.user, weights, contrast)?;
        let predict = |query: &Query| {
            let items = retriever.as_ref().map_or(Vec::new(), |retriever| {
                retriever.retrieve(&query.example.prompt, task.settings.retrieved)
            });
            self.predict(task, &mut voice, query, &items, description.as_deref())
        };
        Ok(Answers {
            key: unit.key.clone(),
            task: task.name.clone(),
            user: user.id.clone(),
            method: unit.method,
            n_history: user.history.len(),
            predictions: user.queries.iter().map(predict).collect::<Result<_>>()?,
        })
    }

    fn predict(
        &self,
        task: &StudyTask,
        voice: &mut Voice,
        query: &Query,
        items: &[&Example],
        description: Option<&str>,
    ) -> Result<Prediction> {
        let n_predict = task.task.n_predict();
        // With all items, or with as many of the best as leave room for the answer.
        let prompts = (0..=items.len())
            .rev()
            .map(|n| before::messages(&query.example.prompt, &items[..n], description));
        let prompt = self.writer.fitting(prompts, n_predict)?;
        let Written {
            text,
            finish,
            statistics,
            elapsed,
        } = self.writer.write(voice, &prompt, n_predict)?;
        let text = task.task.response(&text);
        let Rouge { rouge_1, rouge_l } = Rouge::new(text, &query.example.response);
        Ok(Prediction {
            id: query.id.clone(),
            text: Some(text.to_owned()),
            rouge_1,
            rouge_l,
            n_tokens: statistics.n_chosen - usize::from(finish == Finish::EndOfTurn),
            n_changed: statistics.n_changed,
            looped: finish == Finish::Loop,
            cut: finish == Finish::Length,
            seconds: elapsed.as_secs_f64(),
        })
    }

    /// What the base says of a user, asked once.
    fn description(&self, task: &StudyTask, user: usize) -> Result<String> {
        let key = self.study.description_key(&task.users[user]);
        if let Some(description) = self.store.description(&key)? {
            return Ok(description);
        }
        let history = &task.users[user].history;
        let most = history.len().min(DESCRIBED_ITEMS);
        let prompts = (0..=most)
            .rev()
            .map(|n| before::question_for_description(&history[history.len() - n..]));
        let prompt = self.writer.fitting(prompts, DESCRIPTION_TOKENS)?;
        let mut base = self.writer.alone(None)?;
        let written = self.writer.write(&mut base, &prompt, DESCRIPTION_TOKENS)?;
        let description = written.text.trim().to_owned();
        self.store.keep_description(&key, &description)?;
        Ok(description)
    }

    fn voice(
        &mut self,
        task: &StudyTask,
        user: usize,
        weights: Weights,
        contrast: Option<Contrast>,
    ) -> Result<Voice> {
        let (user, stages): (_, &[Stage]) = match weights {
            Weights::Base => return self.writer.alone(None),
            Weights::Task => {
                let adapter = self.adapters.of_task(task)?;
                return self.writer.alone(Some(self.writer.adapter(&adapter)?));
            }
            Weights::Sft => (user, &[Stage::Sft]),
            Weights::Dpo => (user, &[Stage::Sft, Stage::Mine, Stage::Dpo]),
            Weights::OthersDpo => (
                task.other_user(user),
                &[Stage::Sft, Stage::Mine, Stage::Dpo],
            ),
        };
        let of_task = self.adapters.of_task(task)?;
        let of_both = self.adapters.stacked(task, user, &of_task, stages)?;
        let of_both = self.writer.adapter(of_both.path())?;
        match contrast {
            None => self.writer.alone(Some(of_both)),
            Some(contrast) => {
                let of_task = self.writer.adapter(&of_task)?;
                self.writer.contrasted(of_task, of_both, contrast)
            }
        }
    }
}
