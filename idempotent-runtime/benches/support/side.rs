//! Calls of two sides of a comparison, many at a time.
#![allow(clippy::cast_precision_loss, reason = "figures for a table")]

use std::{hint::black_box, ops::Range, sync::Arc, time::Instant};

use tokio::{runtime::Runtime, task::JoinSet};

use super::Receipt;

/// The number of keys that hits use in turn.
pub(crate) const KEYS: usize = 1024;

/// One side of the comparison.
pub(crate) trait Side: Send + Sync + 'static {
    /// Answers with the receipt of an order, whether or not it was there.
    fn call(&self, key: &str) -> impl Future<Output = Receipt> + Send;
}

/// Calls a second, so many at a time.
pub(crate) fn rate<S: Side>(
    runtime: &Runtime,
    side: &Arc<S>,
    kind: &'static str,
    numbers: Range<usize>,
    concurrent: usize,
) -> f64 {
    let calls = numbers.len();
    let start = Instant::now();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..concurrent {
            let (side, numbers) = (Arc::clone(side), numbers.clone());
            tasks.spawn(async move {
                for number in numbers.skip(task).step_by(concurrent) {
                    let number = if kind == "hit" { number % KEYS } else { number };
                    black_box(side.call(&format!("{kind}-{number:08}")).await);
                }
            });
        }
        tasks.join_all().await;
    });
    calls as f64 / start.elapsed().as_secs_f64()
}
