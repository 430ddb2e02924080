//! An example of a page: how many customers have which level.

use askama::Template;
use axum::extract::State;

use super::{
    super::state::Bridge,
    error::PageError,
    layout::{CUSTOMERS, Frame, Page},
    session::Visitor,
    words::{Badge, count},
};
use crate::engine::checkpoint::Status;

#[derive(Template)]
#[template(path = "dashboard/home.html")]
pub(super) struct HomePage {
    frame: Frame,
    levels: Vec<(Badge, String)>,
}

/// `GET /dashboard`
pub(super) async fn home(State(bridge): State<Bridge>, visitor: Visitor) -> Result<Page<HomePage>, PageError> {
    let summary = bridge.store.level_summary(&visitor.account).await?;
    let levels =
        summary.into_iter().map(|level| (Badge { level: level.level, status: Status::Active }, count(level.customers)));
    Ok(Page(HomePage { frame: Frame::new(&visitor, CUSTOMERS, "Customers"), levels: levels.collect() }))
}
