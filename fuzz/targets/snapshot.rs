//! Any bytes as a snapshot: refused, or a state that is written and read without loss, and can be scored at any time.

#![no_main]

use churnd_fuzz::engine::{
    rules::Rules,
    score::assess,
    silence::{forecast, next_change},
    snapshot::{decode, encode},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    thread_local!(static RULES: Rules = Rules::default());
    let Ok(state) = decode(bytes) else { return };
    let written = encode(&state);
    let again = decode(&written).expect("what we write we read");
    assert_eq!(again, state);
    assert_eq!(encode(&again), written);
    RULES.with(|rules| {
        let mut at = state.newest();
        assert!(assess(&state, rules, at).score <= 100);
        // Time goes on, and silence changes what it says it changes.
        for _ in 0..4 {
            let Some(next) = next_change(&state, rules, at) else { break };
            assert!(next > at);
            let before = assess(&state, rules, next.plus_millis(-1)).score;
            assert_eq!(before, assess(&state, rules, at).score, "nothing changes before {next:?}");
            at = next;
        }
        let steps = forecast(&state, rules, state.newest());
        assert!(steps.windows(2).all(|pair| pair[0].silent_until < pair[1].silent_until));
    });
});
