//! `stats`.

use std::collections::BTreeMap;

use idempotent_runtime::{Idempotency, operator::Filter};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    arguments::StatsOptions,
    failure::{Exit, Failure},
    output::{Output, table},
};

pub(crate) async fn stats(idempotency: &Idempotency, options: &StatsOptions, out: Output) -> Result<Exit, Failure> {
    loop {
        count(idempotency, options, out).await?;
        let Some(pause) = options.watch else { return Ok(Exit::Fine) };
        sleep(pause).await;
        out.next_table()?;
    }
}

async fn count(idempotency: &Idempotency, options: &StatsOptions, out: Output) -> Result<(), Failure> {
    let filter = options.operation.iter().fold(Filter::new(), Filter::operation);
    let mut records = idempotency.operator().list(filter);
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let mut seen = 0;
    while let Some(page) = records.next_page().await? {
        seen += page.len();
        out.progress(&format!("{seen} records so far"));
        for record in page {
            *counts.entry((record.key.operation().to_owned(), record.state.as_str())).or_default() += 1;
        }
    }
    out.progress("");
    if out.is_json {
        for ((operation, state), records) in &counts {
            out.say(&json!({ "operation": operation, "state": state, "records": records }), "")?;
        }
    } else {
        let rows = counts.into_iter().map(|((operation, state), n)| vec![operation, state.to_owned(), n.to_string()]);
        table(&["OPERATION", "STATE", "RECORDS"], &rows.collect::<Vec<_>>())?;
    }
    Ok(())
}
