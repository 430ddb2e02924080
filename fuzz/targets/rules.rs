//! Any text as a rules file: refused with mistakes that can be shown, or rules that every state can be scored by.

#![no_main]

use churnd_fuzz::engine::{rules::Rules, score::assess, silence::next_change, snapshot::decode};
use libfuzzer_sys::fuzz_target;

/// States of every kind.
const STATES: [&[u8]; 5] = [
    include_bytes!("../../src/engine/golden/ancient.bin"),
    include_bytes!("../../src/engine/golden/everything.bin"),
    include_bytes!("../../src/engine/golden/fresh.bin"),
    include_bytes!("../../src/engine/golden/signpost.bin"),
    include_bytes!("../../src/engine/golden/typical.bin"),
];

fuzz_target!(|text: &str| {
    let rules = match Rules::parse(text, "file") {
        Ok(rules) => rules,
        Err(invalid) => return assert!(invalid.to_string().starts_with("file")),
    };
    let again = Rules::parse(text, "other").expect("the same text");
    assert_eq!(rules.hash(), again.hash());
    for state in STATES.iter().map(|bytes| decode(bytes).expect("goldens are read")) {
        let assessment = assess(&state, &rules, state.newest());
        assert!(assessment.score <= 100);
        if let Some(next) = next_change(&state, &rules, state.newest()) {
            assert!(next > state.newest());
            assert!(assess(&state, &rules, next).score <= 100);
        }
    }
});
