//! Integration tests, one binary, a module a subject.

#![allow(missing_docs)]

mod answer_measures;
mod bundles;
mod commands;
mod consumer;
mod damaged_models;
mod decoding;
mod default_model;
mod fixture;
mod golden;
#[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan"))]
mod gpu;
mod grammars;
mod histories;
mod homes;
mod hybrid;
mod llama;
mod memory;
mod merged;
mod parts;
mod prompts;
mod recipe;
mod rouge;
mod sampler;
mod serving;
mod stores;
mod tiny;
mod training;
