//! Tests of the whole: the real binary against real servers, and against a naive model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tidy; // the shape of the source
