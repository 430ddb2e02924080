//! The brain of churnd: decides what events and silence change.

pub mod checkpoint;
