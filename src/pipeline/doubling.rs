//! Doubling the number of partitions while everything runs: one step after the other, each of which may be the last.
//!
//! The first step is the transaction that splits the partitions and takes all leases away; it is the only one that matters
//! for correctness. From then on owners place every event by its customer, whatever number the stream gave it, and read
//! everything. The other steps only make that cheap again: the stream numbers by the new number, readers filter again
//! behind the place where it surely does, and customers' rows get the labels that owners look under. Where a step failed
//! or the process died, doing it again goes on there; [`store::partitioning`](crate::store::partitioning) says why it is safe.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use async_nats::jetstream::Context;

use crate::{
    event::ids::StreamSequence,
    store::{
        Store,
        partitioning::{LabelPlace, Layout, PARTITIONS_AT_MOST},
    },
    stream::{EVENTS, StreamError, numbering},
};

/// Customers that get their label in one transaction: more would hold up checkpoints that have one of them.
const LABEL_AT_ONCE: usize = 5_000;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every partition is two now.
    Split,
    /// The stream was found to number by another number than the database; its numbers do not count until it is changed.
    Distrusted,
    /// The stream numbers by the new number.
    Numbered,
    /// Readers filter again behind this message.
    Settled(StreamSequence),
    /// Some customers' rows were looked at, and moved to their new label.
    Labelled {
        /// Rows looked at.
        seen: u64,
        /// Rows that got another label.
        moved: u64,
    },
    /// Nothing is left to be done.
    Done,
}

/// Why there is nothing to be doubled; nothing was changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No engine has run.
    NothingThere,
    /// The number is neither in force nor its double.
    NotDoubled {
        /// In force.
        number: u16,
    },
    /// Another doubling is not over.
    Changing {
        /// What it leads to.
        number: u16,
    },
    /// The stream numbers by another number than the database.
    OtherNumbering {
        /// In force.
        number: u16,
        /// What the stream numbers by.
        found: Option<u16>,
    },
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingThere => f.write_str(
                "no churnd has scored anything with this database yet: set pipeline.partitions and run `churnd provision`",
            ),
            Self::NotDoubled { number } if *number > PARTITIONS_AT_MOST / 2 => {
                write!(f, "{number} partitions are in force, and more than {PARTITIONS_AT_MOST} are not made")
            }
            Self::NotDoubled { number } => write!(
                f,
                "{number} partitions are in force, and they can only be doubled: the next number is {}",
                u32::from(*number) * 2
            ),
            Self::Changing { number } => {
                write!(f, "a doubling to {number} is not over: run `churnd partitions {number}` first, which goes on with it")
            }
            Self::OtherNumbering { number, found } => {
                let found = found.map_or_else(|| "in a way of its own".to_owned(), |found| format!("by {found}"));
                write!(
                    f,
                    "{number} partitions are in force, but the stream {EVENTS} numbers {found}: run `churnd partitions {number}` \
                     first, which corrects it"
                )
            }
        }
    }
}

/// The way to a number of partitions.
pub struct Doubling {
    store: Store,
    context: Context,
    to: u16,
    settle: Duration,
    place: LabelPlace,
}

impl Doubling {
    /// Checks whether there is a way to `to` partitions, and whether we may go it; changes nothing. `settle` is how long
    /// messages may be on their way into the stream that were numbered before it changed.
    pub async fn plan(store: Store, context: Context, to: u16, settle: Duration) -> anyhow::Result<Self> {
        let layout = store.layout().await?.ok_or(Refusal::NothingThere)?;
        let number = layout.number;
        if to != number {
            if layout.is_changing() {
                return Err(Refusal::Changing { number }.into());
            }
            if u32::from(to) != u32::from(number) * 2 || to > PARTITIONS_AT_MOST {
                return Err(Refusal::NotDoubled { number }.into());
            }
            let found = numbering::look(&context).await?.partitions;
            if found != Some(number) {
                return Err(Refusal::OtherNumbering { number, found }.into());
            }
        }
        numbering::may_change(&context)
            .await
            .with_context(|| format!("cannot change the stream {EVENTS}: use the credentials that provision"))?;
        Ok(Self { store, context, to, settle, place: LabelPlace::default() })
    }

    /// The next step; [`Step::Done`] when there is none.
    pub async fn step(&mut self) -> anyhow::Result<Step> {
        let layout = self.store.layout().await?.ok_or(Refusal::NothingThere)?;
        if layout.number != self.to {
            anyhow::ensure!(
                u32::from(layout.number) * 2 == u32::from(self.to),
                Refusal::NotDoubled { number: layout.number }
            );
            let now = self.store.double_partitions(layout.number).await?;
            anyhow::ensure!(now.number == self.to, Refusal::Changing { number: now.number });
            return Ok(Step::Split);
        }
        match layout.filters_from {
            None => self.settle(&layout).await,
            Some(_) if numbering::look(&self.context).await?.partitions != Some(self.to) => {
                self.store.unsettle_partitions(&layout).await?;
                Ok(Step::Distrusted)
            }
            Some(_) if layout.labelled < layout.number => self.label(&layout).await,
            Some(_) => Ok(Step::Done),
        }
    }

    /// Has the stream number anew. A message that its leader took just before may still be on its way, and another server
    /// that becomes leader just now may not have heard of the change: some seconds are let pass.
    async fn settle(&self, layout: &Layout) -> anyhow::Result<Step> {
        if numbering::set(&self.context, self.to).await?.partitions != Some(self.to) {
            return Ok(Step::Numbered);
        }
        tokio::time::sleep(self.settle).await;
        let found = numbering::look(&self.context).await?;
        anyhow::ensure!(
            found.partitions == Some(self.to),
            "somebody changed the stream {EVENTS} back: nothing is lost, run this command again"
        );
        self.store.settle_partitions(layout, found.last).await?;
        Ok(Step::Settled(found.last))
    }

    /// Labels some customers, then rests for as long as that took: those who score have the right of way.
    async fn label(&mut self, layout: &Layout) -> anyhow::Result<Step> {
        let begun = std::time::Instant::now();
        let done = self.store.label_customers(layout, &self.place, LABEL_AT_ONCE).await?;
        match done.next {
            Some(next) => {
                self.place = next;
                tokio::time::sleep(begun.elapsed()).await;
            }
            None => {
                self.store.customers_labelled(layout).await?;
            }
        }
        Ok(Step::Labelled { seen: done.seen, moved: done.moved })
    }
}

/// Whether the stream numbers as the layout says; an error says what to do. While a doubling is under way any number will do.
pub async fn check_numbering(context: &Context, layout: &Layout) -> Result<Result<(), Refusal>, StreamError> {
    let found = numbering::look(context).await?.partitions;
    let fits = layout.filters_from.is_none() || found == Some(layout.number);
    Ok(if fits { Ok(()) } else { Err(Refusal::OtherNumbering { number: layout.number, found }) })
}
