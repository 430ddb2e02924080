//! How the daemon lives: its clock, its signals, its end.
//!
//! Composition only: nothing below names this module, except the clock, which is a leaf.

pub mod clock; // the only source of wall-clock time
pub mod lifecycle; // signals, tasks, drain, what systemd hears
pub mod systemd; // the words for the service manager
