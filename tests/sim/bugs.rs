//! Planted bugs, each of which breaks one promise: worlds that keep their promises with such a bug prove nothing.

use churnd::pipeline::mutant::{Mutant, Mutants};

use crate::story::live;

/// So many worlds are looked at for each bug, and more until one notices it.
const AT_LEAST: u64 = 60;
const AT_MOST: u64 = 8_000;

/// Where worlds are that notice a bug which only few do, so that they need not be looked for each time.
fn first_seed(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::StaleStates => 1_690,
        Mutant::LateDrop => 660,
        Mutant::ForgetRelease => 650,
        _ => 0,
    }
}

/// What breaks with the bug.
fn promise(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::WatermarkApart => "states and watermark stand in one transaction",
        Mutant::NoFencing => "who lost a partition writes nothing",
        Mutant::PublishEarly => "nothing is published that is not committed",
        Mutant::MarkUnconfirmed => "what is marked as published has arrived",
        Mutant::ForgetUnpublished => "what an owner left unpublished, the next one publishes",
        Mutant::RetryAnew => "a commit without an answer counts once",
        Mutant::SkipGaps => "what was lost on the way is read again",
        Mutant::ForgetIds => "a repeat is recognized after a restore",
        Mutant::EvictWhileLoading => "whom a batch relies on stays in memory",
        Mutant::LoseSilence => "silence changes scores on time",
        Mutant::StaleStates => "what was loaded under a lease ends with it",
        Mutant::LateDrop => "a partition that was gained again is worked on",
        Mutant::BuryLate => "a dead letter stands before the watermark passes",
        Mutant::ForgetRelease => "what is given up finds an owner",
        Mutant::UnnotedRules => "new rules do not stop the reading",
    }
}

#[test]
fn planted_bugs_are_noticed() {
    let mut missed = Vec::new();
    println!("{:<20} {:<58} {:>10} {:>14}", "bug", "breaks", "first seed", "worlds");
    for mutant in Mutant::ALL {
        let (mut first, mut caught, mut worlds) = (None, 0_u64, 0_u64);
        while worlds < AT_LEAST || (first.is_none() && worlds < AT_MOST) {
            let seed = first_seed(mutant) + worlds;
            if !live(seed, Mutants::with(mutant)).violations.is_empty() {
                first.get_or_insert(seed);
                caught += 1;
            }
            worlds += 1;
        }
        let shown = first.map_or_else(|| "missed".to_owned(), |seed| seed.to_string());
        println!("{:<20} {:<58} {shown:>10} {:>14}", mutant.as_str(), promise(mutant), format!("{caught} of {worlds}"));
        if first.is_none() {
            missed.push(mutant.as_str());
        }
    }
    assert!(missed.is_empty(), "worlds with these bugs kept their promises: {missed:?}");
}
