//! The settings of a chat: what `/set` changes, `/show` prints and `/save` stores.

use anyhow::{Result, ensure};
use cope_llama::decode::{AnswerOptions, Contrast, Sampling};
use serde::{Deserialize, Serialize};

use crate::cli::options::checked_scale;

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatSettings {
    /// The system prompt.
    pub system: Option<String>,
    /// α of CoPe.
    pub contrast: f32,
    /// τ of CoPe.
    pub plausibility: f32,
    /// The scale of the adapter; `None` where the base answers alone.
    pub scale: Option<f32>,
    pub temperature: f32,
    /// The temperature of `/regen` where `temperature` is 0.
    pub regen_temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    /// The seed of the first answer to a message; `u32::MAX` draws a new one each time.
    pub seed: u32,
    /// The most tokens of an answer; `None` for no limit.
    pub predict: Option<usize>,
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    System(Option<String>),
    Contrast(f32),
    Plausibility(f32),
    Scale(f32),
    Temperature(f32),
    RegenTemperature(f32),
    TopK(u32),
    TopP(f32),
    MinP(f32),
    Seed(u32),
    Predict(Option<usize>),
}

/// The names of the settings, each with what its value is and an example.
const KNOWN: [(&str, &str, &str); 11] = [
    ("temperature", "a number", "0.7"),
    ("regen_temperature", "a number", "0.7"),
    ("top_k", "a whole number", "40"),
    ("top_p", "a number", "0.95"),
    ("min_p", "a number", "0.05"),
    ("seed", "a whole number, or -1 for a new one each time", "7"),
    ("predict", "a number of tokens, or -1 for no limit", "256"),
    ("contrast", "a number", "0.3"),
    ("plausibility", "a number", "0.1"),
    ("scale", "a number", "0.75"),
    (
        "system",
        "a text, or \"\" for none",
        "Answer in one sentence.",
    ),
];

/// Names that other programs give to a setting.
const ALIASES: [(&str, &str); 3] = [
    ("temp", "temperature"),
    ("num_predict", "predict"),
    ("n_predict", "predict"),
];

impl Setting {
    /// Parses the argument of `/set`: the name of a setting, and its value. The word `parameter`, which Ollama puts before
    /// the name, is skipped.
    ///
    /// # Errors
    ///
    /// There is no such setting, or it cannot have this value; the message says why.
    pub fn parse(argument: &str) -> Result<Self, String> {
        let (mut name, mut value) = first_word(argument);
        if name == "parameter" {
            (name, value) = first_word(value);
        }
        if name.is_empty() {
            return Err(
                "/set needs a setting and a value, for example /set temperature 0.7; /show lists the settings"
                    .into(),
            );
        }
        let plain = name.replace('-', "_");
        let alias = ALIASES.iter().find(|(alias, _)| *alias == plain);
        let plain = alias.map_or(plain.as_str(), |(_, name)| name);
        let Some((name, kind, example)) = KNOWN.iter().find(|(known, ..)| *known == plain) else {
            let known: Vec<&str> = KNOWN.iter().map(|(name, ..)| *name).collect();
            let known = known.join(", ");
            return Err(format!("unknown setting {name:?}; there are {known}"));
        };
        Self::of(name, value)
            .ok_or_else(|| format!("/set {name} needs {kind}, for example /set {name} {example}"))
    }

    /// The setting of a known name, if the value is of its type.
    fn of(name: &str, value: &str) -> Option<Self> {
        let number = || value.parse::<f32>().ok();
        match name {
            "temperature" => number().map(Self::Temperature),
            "regen_temperature" => number().map(Self::RegenTemperature),
            "top_k" => value.parse().ok().map(Self::TopK),
            "top_p" => number().map(Self::TopP),
            "min_p" => number().map(Self::MinP),
            "seed" if value == "-1" => Some(Self::Seed(u32::MAX)),
            "seed" => value.parse().ok().map(Self::Seed),
            "predict" if value == "-1" => Some(Self::Predict(None)),
            "predict" => value.parse().ok().map(|n| Self::Predict(Some(n))),
            "contrast" => number().map(Self::Contrast),
            "plausibility" => number().map(Self::Plausibility),
            "scale" => number().map(Self::Scale),
            _ => match value {
                "" => None,
                "\"\"" => Some(Self::System(None)),
                text => Some(Self::System(Some(text.to_owned()))),
            },
        }
    }

    /// The new value in a few words, which quote no text of the person.
    pub fn note(&self) -> String {
        match self {
            Self::System(Some(_)) => "the system prompt is set".into(),
            Self::System(None) => "no system prompt".into(),
            Self::Contrast(x) => format!("contrast {x}"),
            Self::Plausibility(x) => format!("plausibility {x}"),
            Self::Scale(x) => format!("scale {x}"),
            Self::Temperature(x) => format!("temperature {x}"),
            Self::RegenTemperature(x) => format!("regen_temperature {x}"),
            Self::TopK(n) => format!("top_k {n}"),
            Self::TopP(x) => format!("top_p {x}"),
            Self::MinP(x) => format!("min_p {x}"),
            Self::Seed(seed) => format!("seed {}", seed_text(*seed)),
            Self::Predict(n) => format!("predict {}", limit_text(*n)),
        }
    }
}

impl ChatSettings {
    /// The settings of a chat whose answers have the options of `answer`.
    pub fn new(
        answer: &AnswerOptions,
        contrast: Contrast,
        scale: Option<f32>,
        system: Option<String>,
    ) -> Self {
        let sampling = answer.sampling;
        Self {
            system,
            contrast: contrast.contrast(),
            plausibility: contrast.plausibility(),
            scale,
            temperature: sampling.temperature,
            regen_temperature: Sampling::AGAIN_TEMPERATURE,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            seed: sampling.seed,
            predict: answer.n_predict,
        }
    }

    /// These settings with one changed.
    pub fn with(&self, setting: Setting) -> Self {
        let mut new = self.clone();
        match setting {
            Setting::System(text) => new.system = text,
            Setting::Contrast(x) => new.contrast = x,
            Setting::Plausibility(x) => new.plausibility = x,
            Setting::Scale(x) => new.scale = Some(x),
            Setting::Temperature(x) => new.temperature = x,
            Setting::RegenTemperature(x) => new.regen_temperature = x,
            Setting::TopK(n) => new.top_k = n,
            Setting::TopP(x) => new.top_p = x,
            Setting::MinP(x) => new.min_p = x,
            Setting::Seed(seed) => new.seed = seed,
            Setting::Predict(n) => new.predict = n,
        }
        new
    }

    /// Checks that each setting is in its range, and returns the contrast.
    pub fn check(&self) -> Result<Contrast> {
        let mut answer = AnswerOptions::default();
        self.apply(&mut answer);
        answer.sampling.check()?;
        let regen = self.regen_temperature;
        ensure!(
            regen.is_finite() && regen > 0.0,
            "the temperature of /regen must be above 0, not {regen}"
        );
        self.scale.map(checked_scale).transpose()?;
        Ok(Contrast::new(self.contrast, self.plausibility)?)
    }

    /// Puts the settings of sampling and length into `answer`.
    pub fn apply(&self, answer: &mut AnswerOptions) {
        answer.n_predict = self.predict;
        answer.sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
            ..answer.sampling
        };
    }

    /// Names and values, one a line, for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let none = || "none".to_owned();
        vec![
            ("contrast", self.contrast.to_string()),
            ("plausibility", self.plausibility.to_string()),
            ("scale", self.scale.map_or_else(none, |x| x.to_string())),
            ("temperature", self.temperature.to_string()),
            ("regen_temperature", self.regen_temperature.to_string()),
            ("top_k", self.top_k.to_string()),
            ("top_p", self.top_p.to_string()),
            ("min_p", self.min_p.to_string()),
            ("seed", seed_text(self.seed)),
            ("predict", limit_text(self.predict)),
            ("system", self.system.clone().unwrap_or_else(none)),
        ]
    }
}

fn seed_text(seed: u32) -> String {
    match seed {
        u32::MAX => "-1 (a new one each time)".into(),
        seed => seed.to_string(),
    }
}

fn limit_text(limit: Option<usize>) -> String {
    limit.map_or_else(|| "-1 (no limit)".into(), |n| n.to_string())
}

/// The first word of a text, and the rest.
fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ChatSettings {
        ChatSettings::new(
            &AnswerOptions::default(),
            Contrast::default(),
            Some(1.0),
            None,
        )
    }

    #[test]
    fn a_setting_is_a_name_and_a_value() {
        for (argument, expected) in [
            ("temperature 0.7", Setting::Temperature(0.7)),
            ("temp 0", Setting::Temperature(0.0)),
            ("parameter  top_k 5", Setting::TopK(5)),
            ("top-p .9", Setting::TopP(0.9)),
            ("min_p 0.05", Setting::MinP(0.05)),
            ("seed 7", Setting::Seed(7)),
            ("seed -1", Setting::Seed(u32::MAX)),
            ("num_predict 9", Setting::Predict(Some(9))),
            ("predict -1", Setting::Predict(None)),
            ("scale 0.5", Setting::Scale(0.5)),
            ("plausibility 1", Setting::Plausibility(1.0)),
            ("regen_temperature 1", Setting::RegenTemperature(1.0)),
            (
                "system Be brief. ",
                Setting::System(Some("Be brief.".into())),
            ),
            ("system \"\"", Setting::System(None)),
        ] {
            assert_eq!(Setting::parse(argument), Ok(expected), "{argument}");
        }
        for (argument, why) in [
            ("", "/set needs a setting and a value"),
            ("parameter", "/set needs a setting and a value"),
            (
                "heat 1",
                "unknown setting \"heat\"; there are temperature, ",
            ),
            (
                "temperature",
                "/set temperature needs a number, for example /set temperature 0.7",
            ),
            ("temperature hot", "/set temperature needs a number"),
            ("top_k 1.5", "/set top_k needs a whole number"),
            ("seed -2", "/set seed needs a whole number"),
            ("predict -2", "/set predict needs a number of tokens"),
            ("system", "/set system needs a text"),
        ] {
            let message = Setting::parse(argument).unwrap_err();
            assert!(message.starts_with(why), "{argument}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_value_out_of_its_range_is_refused() {
        assert!(settings().check().is_ok());
        for (setting, why) in [
            (
                Setting::Temperature(-1.0),
                "temperature must be 0 or more, not -1",
            ),
            (
                Setting::Temperature(f32::NAN),
                "temperature must be 0 or more",
            ),
            (
                Setting::RegenTemperature(0.0),
                "temperature of /regen must be above 0",
            ),
            (Setting::TopP(1.5), "top-p must be from 0 to 1, not 1.5"),
            (Setting::MinP(-0.1), "min-p must be from 0 to 1"),
            (
                Setting::Scale(-1.0),
                "scale of an adapter must be 0 or more, not -1",
            ),
            (Setting::Scale(f32::INFINITY), "scale of an adapter must be"),
        ] {
            let error = settings().with(setting.clone()).check().unwrap_err();
            assert!(error.to_string().contains(why), "{setting:?}: {error}");
        }
        for setting in [Setting::Contrast(-0.1), Setting::Plausibility(2.0)] {
            let error = settings().with(setting.clone()).check().unwrap_err();
            let error = error.downcast_ref::<cope_llama::decode::contrast::Error>();
            assert!(error.is_some(), "{setting:?}");
        }
    }

    #[test]
    fn settings_are_saved_and_read_again() {
        let saved =
            (settings().with(Setting::Predict(None))).with(Setting::System(Some("x".into())));
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<ChatSettings>(&text).unwrap(), saved);
        assert!(text.contains("\"contrast\":0.1"), "{text}");
    }
}
