//! Tests of the engine as a whole: scenarios told in text, laws over drawn states, stored snapshots.

mod crash;
mod drawn;
mod golden;
mod laws;
mod play;
mod residence;
mod forget;
mod script;

mod scenario_alerts;
mod scenario_fleet;
mod scenario_factors;
mod scenario_imports;
mod scenario_links;
mod scenario_stripe;
