//! Any bytes as an event in MessagePack: total, the same twice.

#![no_main]

use churnd_fuzz::{decode_twice, event::decode::Encoding};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| decode_twice(payload, Encoding::MessagePack));
