//! How the daemon lives: its clock, its signals, its end.
//!
//! Composition only: nothing below names this module, except the clock, which is a leaf.

pub mod clock; // the only source of wall-clock time
pub mod lifecycle; // signals, tasks, drain, what systemd hears
pub mod systemd; // the words for the service manager
pub mod boot; // the order of the start
pub mod vitals; // whether it gets ahead
mod gauges; // what is measured by looking now and then
mod risk; // questions about customers from NATS
mod interventions; // what people did about them, from NATS
