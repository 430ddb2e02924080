//! What a process does: any of four roles.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// One thing that a process can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Score customers.
    Engine,
    /// Serve HTTP.
    Bridge,
    /// Keep events in Postgres.
    Archive,
    /// Deliver alerts.
    Notify,
}

impl Role {
    /// The role as it stands in settings and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Bridge => "bridge",
            Self::Archive => "archive",
            Self::Notify => "notify",
        }
    }
}

/// The roles of a process, at least one, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Whether a role is among them.
    pub fn contains(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// The roles in the order of their declaration.
    pub fn iter(&self) -> impl Iterator<Item = Role> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Role::as_str).collect();
        formatter.write_str(&names.join(", "))
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut roles = Vec::<Role>::deserialize(deserializer)?;
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() { Err(de::Error::custom("at least one role is needed")) } else { Ok(Self(roles)) }
    }
}
