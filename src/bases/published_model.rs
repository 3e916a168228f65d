//! Published models to choose a base from, compiled in from `models/published.json`, and the choice for one machine.

use serde::Deserialize;

/// Parameters of the model, in millions, whose training is the unit of time.
const UNIT: u64 = 135;
/// The most units of time for each thread of a CPU that a training should take. On two cores a unit is a few minutes for a
/// hundred texts.
const UNITS_A_THREAD: u64 = 4;

/// A published model that can be trained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedModel {
    /// The option that chooses it, such as `-hf owner/repo:quant`.
    pub option: String,
    /// The model family, `general.architecture` of the GGUF file.
    pub architecture: String,
    /// Number of parameters, in millions.
    pub parameters: u64,
    /// About the length of the file, in bytes.
    pub bytes: u64,
    /// About the bytes that a usual training takes beside the weights.
    pub training_bytes: u64,
    /// The licence of the weights.
    pub licence: String,
    /// Whether this very file was trained on by the authors of the list.
    pub is_tried: bool,
    /// For what it is good.
    pub note: String,
}

/// The room that a machine has for a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingRoom {
    /// Bytes of free memory, of the GPU where that trains.
    pub memory: u64,
    /// Bytes that a parameter takes.
    pub parameter_bytes: u64,
    /// Threads of the CPU; `None` where a GPU trains.
    pub n_threads: Option<usize>,
}

/// Whether a machine can train on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingFit {
    /// It can.
    Fits,
    /// The memory is too small.
    TooLarge,
    /// It would take very long.
    TooSlow,
}

impl PublishedModel {
    /// About the bytes that a usual training takes at its peak.
    #[must_use]
    pub fn training_memory(&self, room: &TrainingRoom) -> u64 {
        self.parameters * 1_000_000 * room.parameter_bytes + self.training_bytes
    }

    /// About how many times as long as one on SmolLM2-135M a training takes.
    #[must_use]
    pub fn time(&self) -> u64 {
        (self.parameters + UNIT / 2) / UNIT
    }

    /// Whether a training on this model suits a machine.
    #[must_use]
    pub fn fit(&self, room: &TrainingRoom) -> TrainingFit {
        let most = room.n_threads.map(|n| UNITS_A_THREAD * n as u64);
        if self.training_memory(room) > room.memory {
            TrainingFit::TooLarge
        } else if most.is_some_and(|most| self.time() > most) {
            TrainingFit::TooSlow
        } else {
            TrainingFit::Fits
        }
    }
}

/// All models of the list, from the smallest to the largest.
///
/// # Panics
///
/// The compiled-in list is malformed, which a test rules out.
#[must_use]
pub fn published() -> Vec<PublishedModel> {
    serde_json::from_str(include_str!("../../models/published.json"))
        .expect("models/published.json is checked by a test")
}

#[cfg(test)]
mod tests {
    use super::super::hub_file::HubModel;
    use super::*;

    /// The largest model that suits a machine with this memory, in gigabytes.
    fn largest(gigabytes: u64, n_threads: Option<usize>) -> Option<String> {
        let room = TrainingRoom {
            memory: gigabytes * 1_000_000_000,
            parameter_bytes: if n_threads.is_some() { 4 } else { 2 },
            n_threads,
        };
        let mut models = published();
        models.retain(|model| model.fit(&room) == TrainingFit::Fits);
        models.pop().map(|model| model.option)
    }

    #[test]
    fn the_list_is_in_order_and_names_what_the_options_take() {
        let models = published();
        assert!(models.is_sorted_by_key(|model| model.parameters));
        for model in &models {
            let option = &model.option;
            match option.split_once(' ').unwrap() {
                ("-hf", name) => {
                    HubModel::parse(name).unwrap();
                    assert!(!model.is_tried, "{option}");
                }
                ("-m", name) => {
                    let base = super::super::find(name).unwrap();
                    assert_eq!(base.bytes, model.bytes, "{option}");
                    assert_eq!(base.architecture, model.architecture, "{option}");
                }
                _ => panic!("{option}"),
            }
            // A file has between half a byte and two bytes for each parameter.
            let parameters = model.parameters * 1_000_000;
            let bytes = parameters / 2..parameters * 2;
            assert!(bytes.contains(&model.bytes), "{option}");
        }
    }

    #[test]
    fn memory_and_cores_decide_which_model_is_the_largest() {
        assert_eq!(largest(2, Some(2)), None);
        assert_eq!(largest(3, Some(2)).unwrap(), "-m gemma3-270m");
        let on_two_cores = largest(64, Some(2)).unwrap();
        assert_eq!(on_two_cores, "-hf ggml-org/gemma-3-1b-it-GGUF:Q8_0");
        let on_many_cores = largest(16, Some(16)).unwrap();
        assert_eq!(on_many_cores, "-hf ggml-org/Qwen3-1.7B-GGUF:Q8_0");
        let on_a_gpu = largest(80, None).unwrap();
        assert_eq!(on_a_gpu, "-hf Qwen/Qwen3-8B-GGUF:Q4_K_M");
    }
}
