//! Answers what has not been answered yet, training adapters on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::adapters::{Stacked, StudyAdapters};
use super::answerer::{AnswerLimits, Answerer, LoadedVoice};
use super::augment;
use super::method::{Before, Decoding, Method, MethodWeights};
use super::progress::{StudyEvent, StudyObserver};
use super::retrieve::Retriever;
use super::store::{Answers, Prediction, Store};
use super::study::{Split, Study, StudyTask, Subject};
use crate::decode::Finish;
use crate::home::Stage;
use crate::llama::{Token, computing_device};
use crate::profile::lamp::Query;
use crate::rouge::Rouge;
use crate::{Error, Fault, Result};

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

/// Brings `units` of a study up to date. `stop`, once true, ends the work between two tokens; what is done is kept. A
/// unit whose items or prompts no model can read does not keep the others from being done. Settings with which `query` is
/// answered are noted in `store`, so that a report says which run it is of.
///
/// # Errors
///
/// As of training and decoding, for one of the units at least; and [`Error::Interrupted`].
pub fn run(
    study: &Study,
    store: &Store,
    units: &[Unit],
    stop: &Arc<AtomicBool>,
    observe: StudyObserver,
) -> Result<()> {
    if study.split == Split::Query {
        let tasks: BTreeSet<_> = units.iter().map(|unit| unit.task).collect();
        for task in tasks {
            store.note_run(&study.query_run(&study.tasks[task]))?;
        }
    }
    let mut missing = Vec::new();
    for unit in units {
        if store.answers(&unit.key)?.is_none() {
            missing.push(unit);
        }
    }
    let (total, mut done) = (units.len(), units.len() - missing.len());
    observe(StudyEvent::Started { total, done })?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut runner = Runner {
        device: computing_device(),
        study,
        store,
        answerer: Answerer::load(&study.base_path, &study.base, stop)?,
        adapters: StudyAdapters {
            study,
            store,
            stop,
            observe,
        },
    };
    let mut n_failed = 0;
    for unit in missing {
        // Another process may have done it meanwhile.
        if store.answers(&unit.key)?.is_some() {
            done += 1;
            continue;
        }
        match runner.answers(unit) {
            Ok(answers) => {
                store.keep_answers(&answers)?;
                done += 1;
                let answers = &answers;
                (runner.adapters.observe)(StudyEvent::Answered { answers, done })?;
            }
            Err(error) if ends_one_unit(&error) => {
                let whose = &study.tasks[unit.task].whose(unit.user);
                let event = StudyEvent::Failed {
                    whose,
                    method: unit.method,
                    error: &error,
                };
                (runner.adapters.observe)(event)?;
                n_failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if n_failed > 0 {
        return Err(Error::input(format!(
            "{n_failed} units of work cannot be done, for the reasons given with each"
        )));
    }
    Ok(())
}

/// Whether an error is about a unit's own texts or training, so that the other units can still be done.
fn ends_one_unit(error: &Error) -> bool {
    matches!(error.fault(), Fault::Input | Fault::Missing) || matches!(error, Error::Train(_))
}

struct Runner<'a, 'o> {
    device: String,
    study: &'a Study,
    store: &'a Store,
    answerer: Answerer<'a>,
    adapters: StudyAdapters<'a, 'o>,
}

impl Runner<'_, '_> {
    fn answers(&mut self, unit: &Unit) -> Result<Answers> {
        let task = &self.study.tasks[unit.task];
        let user = &task.users[unit.user];
        let n_predict = task.task.n_predict();
        let prompts = self.prompts(task, unit)?;
        let (voice, training_seconds) = self.voice(task, unit)?;
        let limits = AnswerLimits {
            n_predict,
            no_repeat_ngram: task.settings.no_repeat_ngram,
        };
        let (written, elapsed) = self.answerer.write(&voice, prompts, limits)?;
        let seconds = elapsed.as_secs_f64() / user.queries.len() as f64;
        let predictions = user.queries.iter().zip(written);
        let predictions = predictions.map(|(query, written)| {
            let text = task.task.response(&written.text);
            let Rouge { rouge_1, rouge_l } = Rouge::new(text, &query.example.response);
            Prediction {
                id: query.id.clone(),
                text: Some(text.to_owned()),
                rouge_1,
                rouge_l,
                n_tokens: written.n_tokens,
                n_changed: written.n_changed,
                looped: written.finish == Some(Finish::Loop),
                cut: written.finish == Some(Finish::Length),
                seconds,
            }
        });
        Ok(Answers {
            key: unit.key.clone(),
            task: task.name.clone(),
            user: user.id.clone(),
            method: unit.method,
            device: self.device.clone(),
            n_history: user.history.len(),
            training_seconds,
            predictions: predictions.collect(),
        })
    }

    /// What is asked for each of a user's queries.
    fn prompts(&self, task: &StudyTask, unit: &Unit) -> Result<Vec<Vec<Token>>> {
        let user = &task.users[unit.user];
        let (_, before, _) = unit.method.parts();
        let description = match before {
            Before::DescriptionAndItems => Some(self.description(user)?),
            _ => None,
        };
        let retriever = (before != Before::Nothing).then(|| Retriever::new(&user.history));
        let n_items = task.settings.decoding_of(unit.method).retrieved;
        let prompt = |query: &Query| {
            let question = &query.example.prompt;
            let items = retriever
                .as_ref()
                .map_or(Vec::new(), |it| it.retrieve(question, n_items));
            // With all items, or with as many of the best as leave room for the answer.
            let prompts = (0..=items.len())
                .rev()
                .map(|n| augment::messages(question, &items[..n], description.as_deref()));
            self.answerer.fitting(prompts, task.task.n_predict())
        };
        user.queries.iter().map(prompt).collect()
    }

    /// What the base says of a user, asked once.
    fn description(&self, user: &Subject) -> Result<String> {
        let key = self.study.description_key(user);
        if let Some(description) = self.store.description(&key)? {
            return Ok(description);
        }
        let history = &user.history;
        let most = history.len().min(DESCRIBED_ITEMS);
        let prompts = (0..=most)
            .rev()
            .map(|n| augment::question_for_description(&history[history.len() - n..]));
        let prompt = self.answerer.fitting(prompts, DESCRIPTION_TOKENS)?;
        let base = LoadedVoice::Alone(None);
        let limits = AnswerLimits {
            n_predict: DESCRIPTION_TOKENS,
            no_repeat_ngram: 0,
        };
        let (written, _) = self.answerer.write(&base, vec![prompt], limits)?;
        let description = written[0].text.trim().to_owned();
        self.store.keep_description(&key, &description)?;
        Ok(description)
    }

    /// Who answers a unit's queries, and the seconds for which the user's adapter was trained, if it has one.
    fn voice(&mut self, task: &StudyTask, unit: &Unit) -> Result<(LoadedVoice, Option<f64>)> {
        const ALL: &[Stage] = &[Stage::Sft, Stage::Mine, Stage::Dpo];
        let (weights, _, decoding) = unit.method.parts();
        let (user, stages) = match weights {
            MethodWeights::Base => return Ok((LoadedVoice::Alone(None), None)),
            MethodWeights::Task => {
                let adapter = self.adapters.of_task(task)?;
                let adapter = self.answerer.adapter(&adapter)?;
                return Ok((LoadedVoice::Alone(Some(adapter)), None));
            }
            MethodWeights::Sft => (unit.user, &[Stage::Sft][..]),
            MethodWeights::Dpo => (unit.user, ALL),
            MethodWeights::OthersDpo => (task.other_user(unit.user), ALL),
        };
        let of_task = self.adapters.of_task(task)?;
        let Stacked { file, seconds } = self.adapters.stacked(task, user, &of_task, stages)?;
        let user = self.answerer.adapter(file.path())?;
        let voice = if decoding == Decoding::Alone {
            LoadedVoice::Alone(Some(user))
        } else {
            LoadedVoice::Contrasted {
                task: self.answerer.adapter(&of_task)?,
                user,
                contrast: task.settings.decoding_of(unit.method).contrast()?,
            }
        };
        Ok((voice, Some(seconds)))
    }
}
