//! `list`.

use idempotent_runtime::{Idempotency, operator::Filter};

use crate::{
    arguments::ListOptions,
    failure::{Exit, Failure},
    output::{Output, table},
    record_view,
};

pub(crate) async fn list(idempotency: &Idempotency, options: &ListOptions, out: Output) -> Result<Exit, Failure> {
    let mut filter = Filter::new();
    if let Some(operation) = &options.operation {
        filter = filter.operation(operation);
    }
    if let Some(state) = options.state {
        filter = filter.state(state);
    }
    if let Some(time) = options.expires_within {
        filter = filter.expires_within(time);
    }
    if let Some(limit) = options.limit {
        filter = filter.limit(limit);
    }
    let mut records = idempotency.operator().list(filter);
    // Each page is a table of its own, under one head.
    let mut head: &[&str] = &record_view::HEAD;
    while let Some(page) = records.next_page().await? {
        if out.is_json {
            for record in &page {
                out.say(&record_view::json(record, options.reveal), "")?;
            }
        } else {
            table(head, &page.iter().map(record_view::row).collect::<Vec<_>>())?;
            head = &[""; record_view::HEAD.len()];
        }
    }
    Ok(Exit::Fine)
}
