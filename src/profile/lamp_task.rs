//! The tasks of the benchmarks LaMP (Salemi et al. 2023, arXiv 2304.11406) and `LongLaMP` (Kumar et al. 2024, arXiv
//! 2407.11016): how an item of a profile becomes a prompt and a response.

use serde::Deserialize;

use crate::message::Message;
use crate::profile::Example;
use crate::profile::text_value::optional;

/// The kind of text that the users of a LaMP file write, from one kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LampTask {
    /// The headline of an article.
    NewsHeadline,
    /// The title of a paper, from its abstract.
    ScholarlyTitle,
    /// The abstract of a paper, from its title.
    AbstractGeneration,
    /// The review of a product, from its description and the rating.
    ProductReview,
    /// A post, from a question or a title.
    TopicWriting,
}

/// One item of a LaMP profile; the task determines which fields it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LampItem {
    #[serde(deserialize_with = "optional")]
    text: Option<String>,
    #[serde(deserialize_with = "optional")]
    title: Option<String>,
    #[serde(rename = "abstract", deserialize_with = "optional")]
    abstract_text: Option<String>,
    #[serde(deserialize_with = "optional")]
    overall: Option<String>,
    #[serde(deserialize_with = "optional")]
    summary: Option<String>,
    #[serde(deserialize_with = "optional")]
    description: Option<String>,
    #[serde(rename = "reviewText", deserialize_with = "optional")]
    review_text: Option<String>,
    #[serde(deserialize_with = "optional")]
    content: Option<String>,
}

impl LampTask {
    /// The tasks' names in LaMP files.
    pub const NAMES: [&str; 5] = [
        "news_headline",
        "scholarly_title",
        "abstract_generation",
        "product_review",
        "topic_writing",
    ];

    /// The task with this name in a LaMP file, for example `news_headline (LaMP-4)`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.split_whitespace().next()? {
            "news_headline" | "headline" | "LaMP_4" => Some(Self::NewsHeadline),
            "scholarly_title" | "LaMP_5" => Some(Self::ScholarlyTitle),
            "abstract_generation" => Some(Self::AbstractGeneration),
            "product_review" => Some(Self::ProductReview),
            "topic_writing" => Some(Self::TopicWriting),
            _ => None,
        }
    }

    /// The prompt with `input` as its user message: the input of a held-out item, or one that [`LampTask::example`] makes.
    #[must_use]
    pub fn prompt(self, input: impl Into<String>) -> Vec<Message> {
        let system = match self {
            Self::NewsHeadline => "You are a news headline generator.",
            Self::ScholarlyTitle => "You are a scholarly title generator.",
            Self::AbstractGeneration => "You are an abstract writer.",
            Self::ProductReview => "You are a review writer.",
            Self::TopicWriting => "You are a creative content generator.",
        };
        vec![Message::system(system), Message::user(input)]
    }

    /// The maximum number of tokens of a response; nearly all of the users' own texts are shorter.
    #[must_use]
    pub fn n_predict(self) -> usize {
        match self {
            Self::NewsHeadline => 48,
            Self::ScholarlyTitle => 64,
            Self::AbstractGeneration | Self::ProductReview | Self::TopicWriting => 384,
        }
    }

    /// The part of a model's answer that is scored: its first line that is not empty for headlines and titles, and the
    /// whole answer for the other tasks, without the white space around it.
    #[must_use]
    pub fn response(self, answer: &str) -> &str {
        let answer = answer.trim();
        match self {
            Self::NewsHeadline | Self::ScholarlyTitle => {
                answer.lines().next().unwrap_or_default().trim_end()
            }
            _ => answer,
        }
    }

    /// Turns an item of a profile into an example. The prompt has the wording of the benchmark's held-out items, including
    /// their grammatical errors.
    ///
    /// # Errors
    ///
    /// A field of the item is missing; the message names it.
    pub fn example(self, item: &LampItem) -> Result<Example, String> {
        let (input, response) = match self {
            Self::NewsHeadline => {
                let text = field("text", item.text.as_ref())?;
                (
                    format!("Generate a headline for the following article: {text}"),
                    field("title", item.title.as_ref())?,
                )
            }
            Self::ScholarlyTitle => {
                let text = field("abstract", item.abstract_text.as_ref())?;
                let input =
                    format!("Generate a title for the following abstract of a paper: {text}");
                (input, field("title", item.title.as_ref())?)
            }
            Self::AbstractGeneration => {
                let title = field("title", item.title.as_ref())?;
                (
                    format!("Generate an abstract for the title \"{title}\""),
                    field("abstract", item.abstract_text.as_ref())?,
                )
            }
            Self::ProductReview => (
                review_prompt(item)?,
                field("reviewText", item.review_text.as_ref())?,
            ),
            Self::TopicWriting => (
                topic_prompt(item)?,
                field("content", item.content.as_ref())?,
            ),
        };
        Ok(Example {
            prompt: self.prompt(input),
            response: response.to_owned(),
        })
    }
}

fn review_prompt(item: &LampItem) -> Result<String, String> {
    let overall = field("overall", item.overall.as_ref())?;
    let description = field("description", item.description.as_ref())?;
    let mut prompt = format!(
        "Generate the review text written by a reviewer who has a given an overall rating of \"{overall}\" \
         for a product with description \"{description}\"."
    );
    if let Some(summary) = &item.summary {
        // In wine reviews the summary is the product's name, with which the description begins: "Barolo 2010" in
        // "Barolo 2010 (Nebbiolo, Piedmont, $70)". It is no summary of the review.
        let is_name = description
            .strip_prefix(summary.as_str())
            .is_some_and(|rest| rest.starts_with(" ("));
        if !is_name {
            prompt += " The summary of the review text is \"";
            prompt += summary;
            prompt += "\".";
        }
    }
    Ok(prompt)
}

/// The prompt for a post: posts of a blog have a `title`, answers in a forum have the question as their `summary`.
fn topic_prompt(item: &LampItem) -> Result<String, String> {
    if let Some(title) = &item.title {
        return Ok(format!(
            "Generate the content for a blog post titled \"{title}\""
        ));
    }
    let question = field("summary", item.summary.as_ref())?;
    Ok(format!(
        "Generate the content for a forum post answering \"{question}\""
    ))
}

fn field<'a>(name: &str, value: Option<&'a String>) -> Result<&'a str, String> {
    value
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("the field {name:?} is missing"))
}
