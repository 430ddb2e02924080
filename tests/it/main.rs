//! Tests of the whole: the real binary against real servers, and against a naive model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support; // servers, the binary, waits
mod model; // scoring written a second time, as plainly as the contract allows
mod score; // `churnd score` against the model
mod cli; // each command once for real
mod embedded; // private servers and the death of who started them
mod tidy; // the shape of the source
