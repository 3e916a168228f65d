//! Integration tests, one binary, a module a subject.

#![allow(missing_docs)]

mod damaged_models;
mod decoding;
mod default_model;
mod fixture;
mod golden;
mod llama;
mod recipe;
mod tiny;
mod training;
