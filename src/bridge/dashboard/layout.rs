//! What all pages have: the head, the navigation, who is signed in.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use tracing::error;

use super::session::Visitor;

/// A template as an answer.
pub(super) struct Page<T>(pub(super) T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(text) => Html(text).into_response(),
            Err(problem) => {
                error!("a page cannot be written: {problem}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// A part of the dashboard that the navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// Where it is.
    pub(super) path: &'static str,
    /// What it is called.
    pub(super) name: &'static str,
}

pub(super) const CUSTOMERS: Section = Section { path: "/dashboard", name: "Customers" };
pub(super) const OVERVIEW: Section = Section { path: "/dashboard/overview", name: "Overview" };
pub(super) const WORKED: Section = Section { path: "/dashboard/what-worked", name: "What worked" };
pub(super) const CHANNELS: Section = Section { path: "/dashboard/channels", name: "Channels" };
pub(super) const SYSTEM: Section = Section { path: "/dashboard/system", name: "System" };

/// The navigation, in its order.
pub(super) const SECTIONS: &[Section] = &[CUSTOMERS, OVERVIEW, WORKED, CHANNELS, SYSTEM];

/// What `layout.html` needs; the field `frame` of every template that extends it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) title: String,
    section: Section,
    pub(super) visitor: Visitor,
}

impl Frame {
    /// The frame of a page of that section.
    pub(super) fn new(visitor: &Visitor, section: Section, title: impl Into<String>) -> Self {
        Self { title: title.into(), section, visitor: visitor.clone() }
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = &'static Section> {
        SECTIONS.iter()
    }

    pub(super) fn is_here(&self, section: &Section) -> bool {
        self.section == *section
    }
}
