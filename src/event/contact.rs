//! Contact details: which traits say who a person is, and how they are left out or picked up.
//!
//! The one list for all ways in: the bridge drops such traits before anything is published, the archive before anything is
//! stored. What events other than [`WHO`] carry is their sender's own business.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The events that say who a customer is.
pub const WHO: [&str; 2] = ["identify", "group"];

/// Traits that say who a person is.
const CONTACT_TRAITS: [&str; 14] = [
    "address",
    "avatar",
    "birthday",
    "company",
    "companyName",
    "company_name",
    "email",
    "firstName",
    "first_name",
    "lastName",
    "last_name",
    "name",
    "phone",
    "username",
];

/// The most characters of a company's name that are kept.
const MAX_COMPANY_CHARACTERS: usize = 255;
/// The longest e-mail address that there can be.
const MAX_EMAIL_BYTES: usize = 320;

type Members = BTreeMap<String, Box<RawValue>>;

/// Whom to write to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The company's name.
    pub company_name: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
}

/// A trait that says who a person is.
pub fn is_contact(name: &str) -> bool {
    CONTACT_TRAITS.iter().any(|contact| contact.eq_ignore_ascii_case(name))
}

/// The properties of an event of [`WHO`] without contact details; `None` if they hold none.
pub fn without_contact(properties: &str) -> Option<String> {
    let mut members: Members = serde_json::from_str(properties).ok()?;
    let mut changed = drop_contact(&mut members);
    if let Some(traits) = members.get_mut("traits")
        && let Ok(mut inner) = serde_json::from_str::<Members>(traits.get())
        && drop_contact(&mut inner)
    {
        *traits = serde_json::value::to_raw_value(&inner).expect("members that were read can be written");
        changed = true;
    }
    changed.then(|| serde_json::to_string(&members).expect("members that were read can be written"))
}

fn drop_contact(members: &mut Members) -> bool {
    let before = members.len();
    members.retain(|name, _| !is_contact(name));
    members.len() < before
}

impl Contact {
    /// What the properties of an event of [`WHO`] say in their `traits`; a group's `name` is its company's.
    pub fn of(event: &str, properties: &str) -> Self {
        #[derive(Deserialize)]
        struct Properties {
            traits: Members,
        }
        let Ok(Properties { traits }) = serde_json::from_str(properties) else { return Self::default() };
        let find = |names: &[&str]| {
            let found =
                |name: &&str| traits.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|found| found.1);
            names.iter().filter_map(found).find_map(|value| text_of(value.get()))
        };
        let company: &[&str] = match event {
            "group" => &["company", "companyName", "company_name", "name"],
            _ => &["company", "companyName", "company_name"],
        };
        let company_name = find(company).map(|name| name.chars().take(MAX_COMPANY_CHARACTERS).collect());
        let email = find(&["email"]).filter(|email| email.len() <= MAX_EMAIL_BYTES);
        Self { company_name, email }
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.company_name.is_none() && self.email.is_none()
    }
}

/// A text, or the `name` of an object, as Segment writes companies; without what surrounds it.
fn text_of(json: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        Text(String),
        Object { name: String },
    }
    let (Told::Text(text) | Told::Object { name: text }) = serde_json::from_str(json).ok()?;
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_details_go_and_the_rest_stays_as_it_was() {
        let kept = |properties| without_contact(properties);
        assert_eq!(kept(r#"{"traits":{"plan":"team","seats":1e3}}"#), None);
        assert_eq!(kept(r#"{"stripeCustomerId":"cus_1"}"#), None);
        assert_eq!(kept(r#"{"traits":"none"}"#), None);
        let properties =
            r#"{"traits":{"EMAIL":"a@x.org","Name":"A","seats":1.50,"plan":"te\u0061m"},"phone":"1","b":[1]}"#;
        assert_eq!(kept(properties).unwrap(), r#"{"b":[1],"traits":{"plan":"te\u0061m","seats":1.50}}"#);
    }

    #[test]
    fn a_contact_is_found_as_it_is_usually_written() {
        let of = |event, traits: &str| {
            let contact = Contact::of(event, &format!(r#"{{"traits":{traits}}}"#));
            (contact.company_name.unwrap_or_default(), contact.email.unwrap_or_default())
        };
        let both = ("Acme".to_owned(), "a@x.org".to_owned());
        assert_eq!(of("identify", r#"{"company":" Acme ","email":"a@x.org"}"#), both);
        assert_eq!(of("identify", r#"{"company":{"name":"Acme","id":1},"Email":"a@x.org"}"#), both);
        assert_eq!(of("identify", r#"{"company":7,"company_name":"Acme","email":"a@x.org"}"#), both);
        assert_eq!(of("group", r#"{"name":"Acme","email":"a@x.org"}"#), both);
        assert_eq!(of("identify", r#"{"name":"Anna","email":"  "}"#), Default::default());
        assert!(Contact::of("identify", "[]").is_empty());
        assert_eq!(of("identify", &format!(r#"{{"company":"{}"}}"#, "ü".repeat(300))).0.chars().count(), 255);
    }
}
