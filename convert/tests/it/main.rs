//! Tests of the reader, the writer and the adapters, on files made here.

mod adapter;
mod adapter_lies;
mod corpus;
mod files;
mod gguf_lies;
mod hash;
mod location;
mod merge;
mod parts;
mod peft;
mod peft_mutations;
mod program;
mod quant;
mod random_peft;
mod roundtrip;
mod safetensors;
