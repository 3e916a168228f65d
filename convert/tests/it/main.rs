//! Tests of the reader, the writer and the adapters, on files made here.

mod adapter;
mod adapter_lies;
mod corpus;
mod files;
mod gguf_lies;
mod hash;
mod merge;
mod peft;
mod program;
mod quant;
mod roundtrip;
mod safetensors;
