//! Tests of the whole: the real binary against real servers, and against a naive model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support; // servers, the binary, waits
#[path = "../sim/conformance/mod.rs"]
mod conformance_suite; // what servers do, told as transcripts
mod model; // scoring written a second time, as plainly as the contract allows
mod score; // `churnd score` against the model
mod cli; // each command once for real
mod track; // events over HTTP, and whom a key lets in
mod http_raw; // requests, bodies and clients against the rules
mod tls; // certificates, replaced while running
mod webhook; // Stripe, believed and not believed, and what was missed
mod segment; // Segment's API, as each SDK speaks it
mod told; // from an event to Slack, a mailbox and a webhook
mod slack_install; // a Slack workspace becomes a channel
mod sending; // messages to Slack, mailboxes and webhooks
mod sentry; // errors are reported, and nobody's data with them
mod canary; // secrets, looked for everywhere they must not be
mod thread; // one event through all layers, and through a crash
mod instances; // several instances, asleep, killed, coming and going
mod doubling; // twice as many partitions while events flow
mod poison; // bad messages and their second life
mod linking; // Stripe's customers and ours
mod bounded; // memory, whatever happens
mod standstill; // what is told when nothing gets ahead
mod reload_storm; // rules and certificates, good and bad, again and again under load
mod reload; // other rules while events flow
mod erasure; // a customer that leaves no trace
mod notify; // alerts on their way to people
mod stripe; // webhooks of both shapes, in any order
mod fleet; // an account whose tracking breaks
mod customers; // reading over HTTP
mod interventions; // what people did, over HTTP and NATS, and what came of it
mod dashboard; // who comes in, and what they cannot see or do
mod dashboard_pages; // pages about the account and the system
mod access; // every route with every kind of key
mod privilege; // the users that are shipped for NATS
mod live; // what the daemon answers is what the model and `churnd score` say
mod conformance; // the servers play what the simulation's servers play
mod crash; // everything killed at random under load, and planted bugs
mod commits; // a thousand COMMITs whose answers never came
mod zombies; // what superseded instances try to write
mod torture; // everything goes wrong at once, by a seed
mod clients; // real clients from their registries
mod embedded; // private servers and the death of who started them
mod upgrade; // earlier schemas, migrations beside a daemon, and what is too new
mod restore; // backups of Postgres and of the streams
mod handover; // one daemon after the other, and what the service manager hears
mod package; // the Debian package, from its installation to its purge
mod units; // the systemd units against systemd and against what churnd does
mod operations; // what operators load into Prometheus and Grafana
mod tidy; // the shape of the source
