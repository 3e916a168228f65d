//! The tasks of LaMP and `LongLaMP`: how a profile's item becomes a prompt and a response.

use serde::Deserialize;

use crate::message::Message;
use crate::profile::Example;

/// What the users of a LaMP file write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LampTask {
    /// An article → its headline.
    NewsHeadline,
    /// A paper's abstract → its title.
    ScholarlyTitle,
    /// A paper's title → its abstract.
    AbstractGeneration,
    /// A product and a rating → the review.
    ProductReview,
    /// A question or title → the post.
    TopicWriting,
}

/// One item of a LaMP profile; which fields are there depends on the task.
#[derive(Clone, Debug, Deserialize)]
pub struct LampItem {
    text: Option<String>,
    title: Option<String>,
    #[serde(rename = "abstract")]
    abstract_text: Option<String>,
    overall: Option<String>,
    summary: Option<String>,
    description: Option<String>,
    #[serde(rename = "reviewText")]
    review_text: Option<String>,
    content: Option<String>,
}

impl LampTask {
    /// The task that a LaMP file names, for example `news_headline (LaMP-4)`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.split_whitespace().next()? {
            "news_headline" | "headline" => Some(Self::NewsHeadline),
            "scholarly_title" => Some(Self::ScholarlyTitle),
            "abstract_generation" => Some(Self::AbstractGeneration),
            "product_review" => Some(Self::ProductReview),
            "topic_writing" => Some(Self::TopicWriting),
            _ => None,
        }
    }

    /// The messages that ask for `input`, the words of a held-out item or of [`LampTask::example`].
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

    /// The most tokens of a response: more than nearly all of the users' own have.
    #[must_use]
    pub fn n_predict(self) -> usize {
        match self {
            Self::NewsHeadline => 48,
            Self::ScholarlyTitle => 64,
            Self::AbstractGeneration | Self::ProductReview | Self::TopicWriting => 384,
        }
    }

    /// What counts of a model's answer: all of it but the white space around it, or, where a line is asked for, the
    /// first that is not empty.
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

    /// An item of a profile in the words of the held-out items (the benchmark's own, slips of the pen included).
    ///
    /// # Errors
    ///
    /// The field that is missing.
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
        // "Barolo 2010 (Nebbiolo, Piedmont, $70)": there the summary is the product's name, not the reviewer's words.
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

/// Answers in a forum have a question as their `summary`, posts of a blog have a `title`.
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
