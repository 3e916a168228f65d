//! Answers the queries that are not answered yet, and trains the adapters that this takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::adapters::{Stacked, StudyAdapters};
use super::answerer::{AnswerLimits, AnswerPrompt, Answerer, LoadedVoice};
use super::augment;
use super::method::{Augmentation, Decoding, Method, MethodWeights};
use super::progress::{StudyEvent, StudyObserver};
use super::store::{Answers, Prediction, Store};
use super::study::{Split, Study, StudyTask, Subject};
use crate::decode::Finish;
use crate::home::Stage;
use crate::llama::computing_device;
use crate::profile::lamp::Query;
use crate::retrieval::Retriever;
use crate::rouge::Rouge;
use crate::{Error, Fault, Result};

/// A unit of work, computed and kept as a whole: a method's answers to all queries of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The index of the task in the study.
    pub task: usize,
    /// The index of the user in the task.
    pub user: usize,
    /// The method that answers.
    pub method: Method,
    /// The hash of everything that the answers depend on.
    pub key: String,
}

/// A share of the work: the users whose queries one machine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All of the work.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Part `index` of `count` parts; the first is 0.
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

/// The most tokens of the base's description of a user.
const DESCRIPTION_TOKENS: usize = 160;

/// The most items of the history, the newest, from which the base describes a user.
const DESCRIBED_ITEMS: usize = 10;

/// The units of `methods` in a study, user by user. A task with one user has no unit for [`Method::OtherUser`], since
/// there is no other user whose adapter could answer.
#[must_use]
pub fn units(study: &Study, methods: &[Method], shard: Shard) -> Vec<Unit> {
    let tasks = study.tasks.iter().enumerate();
    let users: Vec<_> = tasks
        .flat_map(|(number, task)| (0..task.users.len()).map(move |user| (number, task, user)))
        .collect();
    // A part has neighbouring users, since the adapter of a user is also the control of the user before.
    let first = |index| users.len() * index / shard.count;
    let users = &users[first(shard.index)..first(shard.index + 1)];
    let unit = |&(number, task, user): &(usize, &StudyTask, usize), &method: &Method| Unit {
        task: number,
        user,
        method,
        key: study.answers_key(task, user, method),
    };
    let units_of = |it| methods.iter().map(move |method| unit(it, method));
    let is_possible =
        |unit: &Unit| unit.method != Method::OtherUser || study.tasks[unit.task].users.len() > 1;
    users
        .iter()
        .flat_map(units_of)
        .filter(is_possible)
        .collect()
}

/// Answers those of `units` that are not answered yet. Once `stop` is true, the work ends between two tokens; finished
/// units are kept. A unit that fails because of its own texts or training is reported, and the others are still done.
/// The settings with which `query` is answered are recorded in `store`, so that a report can say which run it shows.
///
/// # Errors
///
/// [`Error::Input`] if a unit failed because of its own texts or training; [`Error::Interrupted`] if `stop` was set;
/// and the errors of training and decoding that concern every unit.
pub fn run(
    study: &Study,
    store: &Store,
    units: &[Unit],
    stop: &Arc<AtomicBool>,
    observe: StudyObserver,
) -> Result<()> {
    note_query_runs(study, store, units)?;
    let mut missing = Vec::new();
    for unit in units {
        if store.answers(&unit.key)?.is_none() {
            missing.push(unit);
        }
    }
    let (total, done) = (units.len(), units.len() - missing.len());
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
    let n_failed = runner.answer_all(&missing, done)?;
    if n_failed > 0 {
        return Err(Error::input(format!(
            "{n_failed} units of work cannot be done, for the reasons given with each"
        )));
    }
    Ok(())
}

/// Records the settings with which `units` answer `query`, if that is the split of the study.
fn note_query_runs(study: &Study, store: &Store, units: &[Unit]) -> Result<()> {
    if study.split == Split::Query {
        let tasks: BTreeSet<_> = units.iter().map(|unit| unit.task).collect();
        for task in tasks {
            store.note_run(&study.query_run(&study.tasks[task]))?;
        }
    }
    Ok(())
}

/// Whether an error is about a unit's own texts or training, so that the other units can still be done.
fn ends_one_unit(error: &Error) -> bool {
    matches!(error.fault(), Fault::Input | Fault::Missing) || matches!(error, Error::Train(_))
}

/// Answers the units of a study.
struct Runner<'a, 'o> {
    device: String,
    study: &'a Study,
    store: &'a Store,
    answerer: Answerer<'a>,
    adapters: StudyAdapters<'a, 'o>,
}

impl Runner<'_, '_> {
    /// Answers `missing` units and keeps the answers. `done` is the number of units that are done before. Returns the
    /// number of units that failed for a reason of their own.
    fn answer_all(&mut self, missing: &[&Unit], mut done: usize) -> Result<usize> {
        let mut n_failed = 0;
        for unit in missing {
            // Another process may have answered the unit meanwhile.
            if self.store.answers(&unit.key)?.is_some() {
                done += 1;
                continue;
            }
            match self.answers(unit) {
                Ok(answers) => {
                    self.store.keep_answers(&answers)?;
                    done += 1;
                    let answers = &answers;
                    (self.adapters.observe)(StudyEvent::Answered { answers, done })?;
                }
                Err(error) if ends_one_unit(&error) => {
                    let whose = &self.study.tasks[unit.task].label(unit.user);
                    let event = StudyEvent::Failed {
                        whose,
                        method: unit.method,
                        error: &error,
                    };
                    (self.adapters.observe)(event)?;
                    n_failed += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(n_failed)
    }

    /// A method's answers to a user's queries, with their scores.
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
        let (generated, elapsed) = self.answerer.answer(&voice, prompts, limits)?;
        let seconds = elapsed.as_secs_f64() / user.queries.len() as f64;
        let predictions = user.queries.iter().zip(generated);
        let predictions = predictions.map(|(query, answer)| {
            let text = task.task.response(&answer.text);
            let Rouge { rouge_1, rouge_l } = Rouge::new(text, &query.example.response);
            Prediction {
                id: query.id.clone(),
                text: Some(text.to_owned()),
                rouge_1,
                rouge_l,
                n_tokens: answer.n_tokens,
                n_changed: answer.n_changed,
                looped: answer.finish == Some(Finish::Loop),
                cut: answer.finish == Some(Finish::Length),
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

    /// The prompt for each query of a unit's user.
    fn prompts(&self, task: &StudyTask, unit: &Unit) -> Result<Vec<AnswerPrompt>> {
        let user = &task.users[unit.user];
        let n_predict = task.task.n_predict();
        let (_, augmentation, decoding) = unit.method.parts();
        let description = match augmentation {
            Augmentation::DescriptionAndItems => Some(self.description(user)?),
            _ => None,
        };
        let retriever =
            (augmentation != Augmentation::Nothing).then(|| Retriever::new(&user.history));
        let n_items = task.settings.decoding_for(unit.method).retrieved;
        let prompt = |query: &Query| {
            let question = &query.example.prompt;
            let items = retriever
                .as_ref()
                .map_or(Vec::new(), |it| it.retrieve(question, n_items));
            // All items go into the prompt, or as many of the best as leave room for the answer.
            let prompts = (0..=items.len())
                .rev()
                .map(|n| augment::messages(question, &items[..n], description.as_deref()));
            let prompt = self.answerer.fitting(prompts, n_predict)?;
            let bare = || {
                self.answerer
                    .fitting(std::iter::once(question.clone()), n_predict)
            };
            let has_bare_base = decoding == Decoding::ContrastedWithBareBase;
            Ok(AnswerPrompt {
                prompt,
                base_prompt: has_bare_base.then(bare).transpose()?,
            })
        };
        user.queries.iter().map(prompt).collect()
    }

    /// The base's description of a user, generated once and then kept.
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
        let prompt = AnswerPrompt {
            prompt,
            base_prompt: None,
        };
        let (generated, _) = self.answerer.answer(&base, vec![prompt], limits)?;
        let description = generated[0].text.trim().to_owned();
        self.store.keep_description(&key, &description)?;
        Ok(description)
    }

    /// The loaded adapters that answer a unit's queries, and the seconds that training the user's adapter took, if
    /// there is one.
    fn voice(&mut self, task: &StudyTask, unit: &Unit) -> Result<(LoadedVoice, Option<f64>)> {
        const ALL: &[Stage] = &[Stage::Sft, Stage::Mine, Stage::Dpo];
        let (weights, _, decoding) = unit.method.parts();
        let (user, stages) = match weights {
            MethodWeights::Base => return Ok((LoadedVoice::Alone(None), None)),
            MethodWeights::Task => {
                let adapter = self.adapters.task_adapter(task)?;
                let adapter = self.answerer.adapter(&adapter)?;
                return Ok((LoadedVoice::Alone(Some(adapter)), None));
            }
            MethodWeights::Sft => (unit.user, &[Stage::Sft][..]),
            MethodWeights::Dpo => (unit.user, ALL),
            MethodWeights::OthersDpo => (task.other_user(unit.user), ALL),
        };
        let task_adapter = self.adapters.task_adapter(task)?;
        let stacked = self.adapters.stacked(task, user, &task_adapter, stages)?;
        let Stacked { file, seconds } = stacked;
        let user = self.answerer.adapter(file.path())?;
        let voice = if decoding == Decoding::Alone {
            LoadedVoice::Alone(Some(user))
        } else {
            LoadedVoice::Contrasted {
                task: self.answerer.adapter(&task_adapter)?,
                user,
                contrast: task.settings.decoding_for(unit.method).contrast()?,
            }
        };
        Ok((voice, Some(seconds)))
    }
}
