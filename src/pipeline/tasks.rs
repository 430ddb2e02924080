//! Where tasks of the pipeline are started that run beside the one that starts them.
//!
//! The daemon counts them on a tracker, so that they can be waited for. A simulation starts them so that it can hold up
//! or end all tasks of one instance at once.

use std::{future::Future, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio_util::task::TaskTracker;

/// Starts tasks; cheap to clone.
#[derive(Clone)]
pub struct Tasks(Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>);

impl Tasks {
    /// Has every task started by `start`.
    pub fn started_by(start: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(start))
    }

    /// Starts tasks on a tracker.
    pub fn on(tracker: TaskTracker) -> Self {
        Self::started_by(move |task| drop(tracker.spawn(task)))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.0)(task.boxed());
    }
}
