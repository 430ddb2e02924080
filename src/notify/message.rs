//! What a person is sent: an alert, or several as a digest, put into words for each kind of channel.

use super::alert::Alert;

/// What a message is made from.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Its key: the same at each try, and what receivers may recognize repeats by.
    pub key: String,
    /// The alerts it tells; more than one make a digest. Never empty.
    pub alerts: Vec<Told>,
}

/// An alert with what else is known of its customer.
#[derive(Clone, Debug)]
pub struct Told {
    /// The alert.
    pub alert: Alert,
    /// The customer's company, where such names are stored.
    pub company: Option<String>,
}
