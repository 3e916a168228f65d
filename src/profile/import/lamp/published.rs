//! The files in which LaMP and `LongLaMP` are published: a list, or a line each, of questions with the profile of the user who is
//! asked.
//!
//! ```text
//! [{"id": "110", "input": "Generate a headline for …", "profile": [{"id": …, "text": …, "title": …}]}]   train_questions.json
//! {"task": "LaMP_4", "golds": [{"id": "110", "output": "Mill Turns a Page"}]}                          train_outputs.json
//! {"name": "ann", "input": …, "output": …, "profile": […]}                                            LongLaMP
//! ```
//!
//! LaMP's own script `merge_with_rank.py` writes the golds into the questions as `output`. The user is named by `user_id` in
//! LaMP's splits by time, and by `name`, `author` or `reviewerId` in `LongLaMP`; else each question is of another user.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Lamp, Query, StoredQuery, User, wrong_field};
use crate::profile::import::export_files::ExportFile;
use crate::profile::import::json::{JsonObject, for_each_object};
use crate::profile::import::source::{malformed, utf8};
use crate::profile::text_value::{required, text_of};
use crate::profile::{Example, LampItem, LampTask};
use crate::{Error, Result};

/// Fields that name the user of a question.
const USERS: [&str; 4] = ["user_id", "reviewerid", "author", "name"];

/// The beginnings of questions, with their tasks.
const QUESTIONS: [(&str, LampTask); 5] = [
    (
        "Generate a headline for the following article",
        LampTask::NewsHeadline,
    ),
    (
        "Generate a title for the following abstract",
        LampTask::ScholarlyTitle,
    ),
    (
        "Generate an abstract for the title",
        LampTask::AbstractGeneration,
    ),
    (
        "Generate the review text written by a reviewer",
        LampTask::ProductReview,
    ),
    ("Generate the content for a ", LampTask::TopicWriting),
];

/// The largest file of golds, in bytes.
const MAX_GOLDS: u64 = 64 << 20;

/// The golds beside a file of questions.
#[derive(Deserialize)]
struct Golds {
    task: String,
    golds: Vec<Gold>,
}

#[derive(Deserialize)]
struct Gold {
    #[serde(deserialize_with = "required")]
    id: String,
    #[serde(deserialize_with = "required")]
    output: String,
}

/// A row of a file.
struct Row {
    user: String,
    question: StoredQuery,
    /// Whether the question has an answer.
    has_gold: bool,
    profile: Vec<LampItem>,
}

/// Reads the users whose ids `keep` accepts, and the ids of all.
///
/// # Errors
///
/// [`Error::Io`] when a file cannot be read; [`Error::Input`] when one is malformed or its task is unknown.
pub(super) fn read(
    file: &ExportFile,
    mut keep: impl FnMut(&str) -> bool,
) -> Result<(Lamp, Vec<String>)> {
    let path = file.path();
    let (mut task, golds) = golds(file)?;
    let mut users: Vec<User> = Vec::new();
    // The place of each user that is kept.
    let mut places = HashMap::new();
    let mut ids = Vec::new();
    let mut number = 0;
    for_each_object(file, |object| {
        number += 1;
        let row = Row::read(object, number, &golds)?;
        let task = match task {
            Some(task) => task,
            None => *task.insert(task_of(&row.question.input)?),
        };
        let place = *places.entry(row.user.clone()).or_insert_with(|| {
            ids.push(row.user.clone());
            let place = keep(&row.user).then_some(users.len());
            users.extend(place.map(|_| User::new(row.user.clone())));
            place
        });
        if let Some(place) = place {
            row.add(task, &mut users[place]);
        }
        Ok(())
    })?;
    let task = task.ok_or_else(|| malformed(path, "holds no questions"))?;
    Ok((Lamp { task, users }, ids))
}

impl Row {
    fn read(
        mut object: JsonObject,
        number: usize,
        golds: &HashMap<String, String>,
    ) -> Result<Self, String> {
        if !(object.has("input") && object.has("profile")) {
            return Err(format!(
                "{object} is no question with \"input\" and \"profile\""
            ));
        }
        let text = |name: &str| match object.given(name) {
            None => Ok(None),
            Some(value) => text_of(value).map(Some).ok_or_else(|| {
                let kind = crate::profile::text_value::kind(value);
                format!("the field {name:?} is {kind}, where a text is needed")
            }),
        };
        let id = text("id")?.unwrap_or_else(|| number.to_string());
        let named = USERS.iter().find(|name| object.given(name).is_some());
        let user = named.map_or(Ok(None), |name| text(name))?;
        let output = text("output")?.or_else(|| golds.get(&id).cloned());
        let input = text("input")?.ok_or("the field \"input\" is empty")?;
        let profile = object.take("profile").unwrap_or_default();
        let profile = serde_path_to_error::deserialize(profile).map_err(|error| {
            let what = error.inner().to_string();
            let what = what.trim_start_matches("invalid type: ");
            format!("the question {id:?}: profile{}: {what}", error.path())
        })?;
        Ok(Self {
            user: user.unwrap_or_else(|| id.clone()),
            has_gold: output
                .as_ref()
                .is_some_and(|output| !output.trim().is_empty()),
            question: StoredQuery {
                id,
                input,
                output: output.unwrap_or_default(),
            },
            profile,
        })
    }

    /// Adds the row to its user. Profiles of several questions of one user are mostly the same.
    fn add(self, task: LampTask, user: &mut User) {
        for item in &self.profile {
            match task.example(item).and_then(Example::checked) {
                Ok(example) if user.known.insert(super::hash(&example)) => {
                    user.history.push(example);
                }
                Ok(_) => {}
                Err(_) => user.n_incomplete += 1,
            }
        }
        if self.has_gold {
            user.query.push(Query::of(task, self.question));
        }
    }
}

/// The task and the golds in the file beside one with questions.
fn golds(file: &ExportFile) -> Result<(Option<LampTask>, HashMap<String, String>)> {
    let name = file.file_name();
    let beside = name
        .contains("questions")
        .then(|| name.replace("questions", "outputs"));
    let Some(golds) = beside.and_then(|name| file.beside(&name)) else {
        return Ok((None, HashMap::new()));
    };
    let bytes = golds.content(MAX_GOLDS)?;
    let mut deserializer = serde_json::Deserializer::from_str(utf8(golds.path(), &bytes)?);
    let stored: Golds = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        malformed(
            golds.path(),
            wrong_field("no golds of LaMP that can be read", &error),
        )
    })?;
    let task = super::task(golds.path(), &stored.task)?;
    let golds = stored.golds.into_iter().map(|gold| (gold.id, gold.output));
    Ok((Some(task), golds.collect()))
}

/// The task that a question is of.
fn task_of(input: &str) -> Result<LampTask, String> {
    let known = QUESTIONS
        .iter()
        .find(|(beginning, _)| input.trim_start().starts_with(beginning));
    known.map(|(_, task)| *task).ok_or_else(|| {
        let beginning: String = input.chars().take(60).collect();
        format!("the task of the question {beginning:?} is unknown; known are headlines, titles and abstracts of papers, reviews and posts")
    })
}

/// The file with the questions to which a file holds the golds, for messages.
pub(in crate::profile::import) fn refuse_golds(file: &ExportFile) -> Error {
    let questions = file.file_name().replace("outputs", "questions");
    malformed(
        file.path(),
        format_args!(
            "holds the golds of LaMP's questions alone; import the questions ({questions}), beside which it is read"
        ),
    )
}
