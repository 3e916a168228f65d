//! Integration tests, one binary, a module a subject.

#![allow(missing_docs)]

mod tiny;
