//! What can be said of a channel before anything is sent to it.

use secrecy::ExposeSecret as _;

use super::{settings::SenderConfig, slack, templates};
use crate::{
    store::channels::{Target, Templates},
    web::guard::{self, Receiver},
};

/// Refuses channels whose messages could never arrive.
#[derive(Clone, Debug)]
pub struct Checks {
    hooks_url: String,
    inside: Vec<Receiver>,
}

impl Checks {
    /// By what messages are sent with.
    pub fn new(config: &SenderConfig) -> Self {
        Self { hooks_url: config.slack.hooks_url.clone(), inside: config.sending.internal_receivers.clone() }
    }

    /// Everything that would fail at each try, as sentences that begin with the field. That a name leads into an own network
    /// shows only when it is asked.
    pub fn problems(&self, target: Option<&Target>, templates: Option<&Templates>) -> Vec<String> {
        let of_target = match target {
            Some(Target::SlackWebhook { url }) if !slack::is_hook(&self.hooks_url, url.expose_secret()) => {
                Some(format!("url must begin with {}/", self.hooks_url))
            }
            Some(Target::Webhook { url, .. }) => guard::target(url.expose_secret(), &self.inside)
                .err()
                .map(|why| format!("url cannot be sent to: {why}")),
            _ => None,
        };
        of_target.into_iter().chain(templates.map(templates::problems).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn told(target: &Target) -> Vec<String> {
        let checks = Checks {
            hooks_url: "https://hooks.slack.com".to_owned(),
            inside: vec!["alerts.internal:8443".parse().unwrap()],
        };
        checks.problems(Some(target), None)
    }

    fn webhook(url: &str) -> Target {
        Target::Webhook { url: SecretString::from(url), secrets: Vec::new() }
    }

    #[test]
    fn what_could_never_arrive_is_refused() {
        for (url, problem) in [
            ("https://example.com/hook", None),
            ("https://alerts.internal:8443/hook", None),
            ("http://example.com/hook", Some("url cannot be sent to: the URL must begin with https://")),
            ("https://10.0.0.1/", Some("url cannot be sent to: 10.0.0.1 is not an address of the public internet")),
            ("https://0x7f.1/", Some("url cannot be sent to: 127.0.0.1 is not an address of the public internet")),
            ("https://me@example.com/", Some("url cannot be sent to: the URL must not hold a user or a password")),
        ] {
            assert_eq!(told(&webhook(url)).first().map(String::as_str), problem, "{url}");
        }
        let slack = |url: &str| told(&Target::SlackWebhook { url: SecretString::from(url) });
        assert!(slack("https://hooks.slack.com/services/T/B/x").is_empty());
        assert_eq!(slack("https://hooks.slack.com.example/services"), ["url must begin with https://hooks.slack.com/"]);
    }
}
