//! Slack, by an incoming webhook or by the Web API of a workspace that installed the app.

mod app; // chat.postMessage and chat.update
mod blocks; // what Slack shows
mod hook; // incoming webhooks

pub(super) use self::{
    app::{Place, send as send_by_app},
    blocks::message,
    hook::{is_hook, send as send_by_hook},
};
