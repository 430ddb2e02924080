//! What is said when all is ready: where everything is, and what to try.

use std::{env, net::SocketAddr, path::Path};

use serde::Serialize;

use super::{directory::Keys, servers::Servers};
use crate::{
    cli::output::{self, NotPrinted},
    event::ids::AccountId,
};

/// Everything that is worth knowing.
pub(super) struct Welcome<'a> {
    pub(super) servers: &'a Servers,
    pub(super) http: SocketAddr,
    pub(super) account: &'a AccountId,
    pub(super) keys: &'a Keys,
    pub(super) dir: &'a Path,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    nats: String,
    postgres: String,
    http: String,
    dashboard: String,
    account: &'a AccountId,
    publishable_key: &'a str,
    secret_key: &'a str,
    stripe_secret: &'a str,
}

impl Welcome<'_> {
    /// One line for programs.
    pub(super) fn as_json(&self) -> Result<(), NotPrinted> {
        output::json(&Line {
            nats: self.servers.nats_url(),
            postgres: self.servers.postgres_url(),
            http: format!("http://{}", self.http),
            dashboard: format!("http://{}/dashboard", self.http),
            account: self.account,
            publishable_key: &self.keys.publishable,
            secret_key: &self.keys.secret,
            stripe_secret: &self.keys.stripe,
        })
    }

    /// A block for people.
    pub(super) fn as_text(&self) -> Result<(), NotPrinted> {
        let (nats, account, http) = (self.servers.nats_url(), self.account, self.http);
        let churnd = this_program();
        output::line(format!(
            r#"
churnd is running; Ctrl-C stops everything.

  dashboard        http://{http}/dashboard    (sign in with the secret key)
  HTTP             http://{http}
  NATS             {nats}
  Postgres         {postgres}
  data             {dir}

  account          {account}
  publishable key  {publishable}
  secret key       {secret}
  Stripe secret    {stripe}

To try it, in another terminal:

  export CHURND__NATS__URL={nats} CHURND__POSTGRES__URL='{postgres}'
  {churnd} watch --account {account}                 # alerts as they come
  echo '{{"customerId":"jane","event":"payment_failed"}}' | {churnd} publish - --account {account}
  {churnd} doctor                               # what runs, and how far it is
  curl http://{http}/metrics
"#,
            postgres = self.servers.postgres_url(),
            dir = self.dir.display(),
            publishable = self.keys.publishable,
            secret = self.keys.secret,
            stripe = self.keys.stripe,
        ))
    }
}

/// How this program was called.
fn this_program() -> String {
    env::args().next().unwrap_or_else(|| "churnd".to_owned())
}
