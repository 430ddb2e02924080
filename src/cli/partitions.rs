//! `churnd partitions`: how many partitions there are, and doubling them while everything runs.

use std::time::Duration;

use super::{connect, output, settings::Settings};
use crate::{
    pipeline::doubling::{Doubling, Step},
    stream::numbering,
};

/// Customers between two lines about how far it is.
const SAY_EVERY: u64 = 100_000;

/// The flags of `churnd partitions`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Double to this number; where that was begun and not ended, go on. Without it, only say how it stands
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    number: Option<u16>,
    /// How long to wait, once the stream numbers anew, for messages that were numbered before
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    settle: u64,
    #[command(flatten)]
    settings: Settings,
}

impl Options {
    /// Says how it stands, or doubles.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.settings.load()?;
        let store = connect::store(&config).await?;
        let context = connect::jetstream(&config, "partitions").await?;
        let Some(number) = self.number else {
            let Some(layout) = store.layout().await? else {
                return Ok(output::line("no churnd has scored anything with this database yet")?);
            };
            let stream = numbering::look(&context).await?.partitions;
            let stream = stream.map_or_else(|| "in a way of its own".to_owned(), |stream| format!("by {stream}"));
            output::line(format!("{} partitions are in force; the stream numbers {stream}", layout.number))?;
            if layout.is_changing() {
                output::line(format!("a doubling is not over: run `churnd partitions {}`", layout.number))?;
            }
            return Ok(());
        };
        let mut doubling = Doubling::plan(store, context, number, Duration::from_secs(self.settle)).await?;
        let (mut all, mut changed, mut told) = (0, 0, 0);
        loop {
            match doubling.step().await? {
                Step::Split => output::line(format!(
                    "split: {number} partitions are in force, and instances start over by that number"
                ))?,
                Step::Distrusted => output::line("the stream numbers otherwise: instances read everything for now")?,
                Step::Numbered => output::line(format!(
                    "numbered: the stream numbers by {number} from now on; waiting {} s for what is on its way",
                    self.settle
                ))?,
                Step::Settled(from) => {
                    output::line(format!(
                        "settled: messages behind {from} are numbered by {number}, and filtered again"
                    ))?;
                }
                Step::Labelled { seen, moved } => {
                    (all, changed) = (all + seen, changed + moved);
                    if all >= told + SAY_EVERY {
                        told = all;
                        output::line(format!(
                            "labelling: {changed} of {all} customers stand in their new partition now"
                        ))?;
                    }
                }
                Step::Done => break,
            }
        }
        if all > 0 {
            output::line(format!("labelled: {changed} of {all} customers stand in their new partition"))?;
        }
        output::line(format!("done: {number} partitions"))?;
        Ok(())
    }
}
