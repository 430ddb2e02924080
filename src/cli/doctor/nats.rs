//! The NATS server and its streams.

use async_nats::jetstream::{self, Context};

use super::Finding;
use crate::{
    cli::connect,
    config::Config,
    stream::{ALERTS, DEAD, EVENTS, WEBHOOKS, topology},
};

/// What was found, and a way to look further.
pub(super) struct Nats {
    pub(super) findings: Vec<Finding>,
    pub(super) context: Option<Context>,
}

/// Looks at the server and its streams.
pub(super) async fn look(config: &Config) -> Nats {
    let client = match connect::try_nats(config, "doctor").await {
        Ok(client) => client,
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::new(error));
            let next = "start nats-server, or correct nats.url, nats.user and nats.credentials_file";
            return Nats { findings: vec![Finding::fault("nats", text, next)], context: None };
        }
    };
    let server = client.server_info();
    let text = format!("nats-server {} at {}", server.version, config.nats.redacted_url());
    let mut findings = vec![Finding::fine("nats", text)];
    findings.extend(config.nats.exposure().map(|exposure| Finding::note("nats", exposure)));
    let context = jetstream::new(client);
    match topology::declared(config.pipeline.partitions).verify(&context).await {
        Ok(problems) => findings.extend(problems.into_iter().map(of_problem)),
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::new(error));
            let next =
                "enable JetStream in the server's configuration, and let this user use its API (nats/ shows how)";
            findings.push(Finding::fault("jetstream", text, next));
            return Nats { findings, context: None };
        }
    }
    for (stream, area, what) in
        [(EVENTS, "events", "events"), (WEBHOOKS, "webhooks", "webhooks"), (ALERTS, "alerts", "alerts")]
    {
        findings.extend(contents(&context, stream, area, what).await);
    }
    findings.extend(dead_letters(&context).await);
    Nats { findings, context: Some(context) }
}

/// The sentences of the verification say themselves what to do.
fn of_problem(problem: topology::Problem) -> Finding {
    match (problem.fatal, problem.text.split_once(": ")) {
        (true, Some((what, next))) => Finding::fault("streams", what, next.trim_end_matches('.')),
        (true, None) => Finding::fault("streams", problem.text, "run `churnd provision`"),
        (false, _) => Finding::note("durability", problem.text),
    }
}

/// How much a stream holds; nothing where there is no stream, which is told already.
async fn contents(context: &Context, stream: &str, area: &'static str, what: &str) -> Option<Finding> {
    let found = context.get_stream(stream).await.ok()?;
    let info = found.cached_info();
    let (messages, mib) = (info.state.messages, info.state.bytes >> 20);
    let text = format!("{messages} {what} in {stream}, {mib} MiB");
    let limit = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
    if limit > 0 && info.state.bytes > limit / 10 * 9 {
        let next =
            format!("raise max_bytes of {stream}, or shorten its max_age: at the limit the server refuses messages");
        return Some(Finding::fault(area, format!("{text}: more than nine tenths of its limit"), next));
    }
    Some(Finding::fine(area, text))
}

async fn dead_letters(context: &Context) -> Option<Finding> {
    let stream = context.get_stream(DEAD).await.ok()?;
    Some(match stream.cached_info().state.messages {
        0 => Finding::fine("dead", "no dead letters"),
        count => Finding::note("dead", format!("{count} messages could not be used and are kept as dead letters"))
            .with_next("`churnd replay-dead --dry-run` says why, and how many have become valid"),
    })
}
