//! The cast: who the customers are, how each behaves, and those that the story is about.

use super::{Scale, random::Random};

/// How a customer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Comes every working day.
    Daily,
    /// Comes once or twice a week.
    Weekly,
    /// Came every day, then less and less.
    Fading,
    /// Came every day, then nobody logged in again, and then everything stopped.
    Silent,
    /// Comes every day, and looks at the billing page again and again.
    Calculating,
    /// Its last payment failed.
    Failing,
    /// Uses it less, and writes sour tickets.
    Sour,
}

/// A customer.
#[derive(Clone, Debug)]
pub(super) struct Customer {
    /// How it is called everywhere.
    pub(super) id: String,
    /// How Stripe calls it.
    pub(super) stripe: String,
    /// How it behaves.
    pub(super) habit: Habit,
    /// What it pays a month, in cents.
    pub(super) monthly: u64,
    /// Its own chance.
    pub(super) random: Random,
}

/// Its payment fails, then succeeds.
pub(super) const HARBOR: &str = "harbor-books";
/// It wants to leave at the end of the month.
pub(super) const NORTHWIND: &str = "northwind-labs";
/// Its bank takes a payment back.
pub(super) const COPPER: &str = "copper-cafe";
/// Its subscription ends.
pub(super) const TIDAL: &str = "tidal-media";
/// It has been silent for weeks, then looks at the billing page.
pub(super) const CEDAR: &str = "cedar-clinic";

const STORY: [(&str, Habit, u64); 5] = [
    (HARBOR, Habit::Daily, 24_000),
    (NORTHWIND, Habit::Daily, 129_000),
    (COPPER, Habit::Weekly, 9_900),
    (TIDAL, Habit::Weekly, 49_000),
    (CEDAR, Habit::Silent, 79_000),
];
/// Of those that are not in the story: so many begin with each habit, the rest are healthy.
const TROUBLED: [(Habit, usize); 5] =
    [(Habit::Fading, 5), (Habit::Silent, 4), (Habit::Calculating, 3), (Habit::Failing, 4), (Habit::Sour, 3)];
const FIRST: [&str; 20] = [
    "amber", "birch", "bright", "blue", "clear", "crown", "delta", "ember", "fern", "golden", "granite", "indigo",
    "juniper", "lunar", "maple", "oak", "pine", "quartz", "river", "silver",
];
const SECOND: [&str; 20] = [
    "analytics",
    "bakery",
    "books",
    "clinic",
    "coffee",
    "design",
    "energy",
    "foods",
    "garden",
    "hotels",
    "legal",
    "logistics",
    "media",
    "motors",
    "optics",
    "robotics",
    "school",
    "sports",
    "studio",
    "travel",
];
const PRICES: [u64; 5] = [4_900, 9_900, 19_900, 49_000, 99_000];

/// All customers, those of the story first.
pub(super) fn cast(scale: &Scale) -> Vec<Customer> {
    let troubled = TROUBLED.iter().flat_map(|(habit, count)| std::iter::repeat_n(*habit, *count));
    let mut habits = troubled.chain(std::iter::repeat(Habit::Daily));
    (0..scale.customers.max(STORY.len()))
        .map(|index| {
            let mut random = Random::of(scale.seed, index);
            let stripe = format!("cus_demo{index:05}");
            if let Some((id, habit, monthly)) = STORY.get(index) {
                return Customer { id: (*id).to_owned(), stripe, habit: *habit, monthly: *monthly, random };
            }
            let habit = match habits.next() {
                Some(Habit::Daily) | None if random.percent(35) => Habit::Weekly,
                Some(habit) => habit,
                None => Habit::Daily,
            };
            let monthly = *random.pick(&PRICES);
            Customer { id: name(index), stripe, habit, monthly, random }
        })
        .collect()
}

/// Each index has a name of its own.
fn name(index: usize) -> String {
    let (first, second) = (FIRST[index % FIRST.len()], SECOND[(index / FIRST.len() + index) % SECOND.len()]);
    match index / (FIRST.len() * SECOND.len()) {
        0 => format!("{first}-{second}"),
        round => format!("{first}-{second}-{}", round + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_customer_has_a_name_of_its_own_and_most_are_healthy() {
        let cast = cast(&Scale { customers: 1_000, days: 42, seed: 7 });
        let names: HashSet<&str> = cast.iter().map(|customer| customer.id.as_str()).collect();
        assert_eq!(names.len(), 1_000);
        let healthy = cast.iter().filter(|customer| matches!(customer.habit, Habit::Daily | Habit::Weekly)).count();
        assert!(healthy > 950, "{healthy}");
    }
}
