//! The vocabulary: events, ids, instants, money, subjects, and the decoding of what arrives.
//!
//! Pure: names no other module, does no I/O and reads no clock. Decoding is total: any bytes give an event or a
//! [`decode::Reject`] with a stable name.

pub mod ids;
pub mod time;
pub mod money;
pub mod subject;
pub mod contact;
pub mod fact;
pub mod decode;
pub mod sentiment;
pub mod stripe;
pub mod segment;
