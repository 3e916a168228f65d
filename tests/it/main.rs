//! Integration tests, one binary, a module a subject.

#![allow(missing_docs)]

mod commands;
mod consumer;
mod damaged_models;
mod decoding;
mod default_model;
mod fixture;
mod golden;
mod histories;
mod homes;
mod llama;
mod prompts;
mod recipe;
mod tidy;
mod tiny;
mod training;
