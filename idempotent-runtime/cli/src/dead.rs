//! `dead`: messages that were given up.

use idempotent_runtime::{
    Idempotency,
    operator::time,
    store::{DeadLetter, Replay},
};
use serde_json::{Value, json};

use crate::{
    arguments::DeadCommand,
    failure::{Exit, Failure},
    output::{Output, ms, table},
    record_view::revealed,
};

const PAGE_LEN: usize = 200;
const NO_LETTERS: &str = "this store keeps no dead letters: the broker has them";

pub(crate) async fn dead(idempotency: &Idempotency, command: &DeadCommand, out: Output) -> Result<Exit, Failure> {
    let letters = idempotency.store().dead_letters().ok_or_else(|| Failure::Store(NO_LETTERS.to_owned()))?;
    match command {
        DeadCommand::List { operation, reveal } => {
            let (mut after, mut head): (_, &[&str]) = (0, &HEAD);
            loop {
                let page = letters.letters(operation, after, PAGE_LEN).await?;
                let Some(last) = page.last() else { return Ok(Exit::found_if(after != 0)) };
                after = last.id;
                if out.is_json {
                    for letter in &page {
                        out.say(&letter_json(letter, *reveal), "")?;
                    }
                } else {
                    table(head, &page.iter().map(|letter| row(letter, *reveal)).collect::<Vec<_>>())?;
                    head = &[""; HEAD.len()];
                }
            }
        }
        DeadCommand::Replay { operation, id } => {
            let (word, text) = match letters.replay(operation, *id).await? {
                Replay::Asked => ("asked", "a running consumer works it off next"),
                Replay::NotDead => ("not-dead", "there is no such letter, or it is to be replayed already"),
                Replay::Taken => (
                    "taken",
                    "its key belongs to another run or message by now, or it has no id or no payload: it stays a dead letter",
                ),
                _ => ("other", "the store gave an answer that this command does not know"),
            };
            out.say(&json!({ "replay": word }), text)?;
            Ok(Exit::found_if(word != "asked"))
        }
        DeadCommand::Discard { operation, id, .. } => {
            let was_there = letters.discard(operation, *id).await?;
            out.say(
                &json!({ "discarded": was_there }),
                if was_there { "discarded" } else { "there is no such letter" },
            )?;
            Ok(Exit::found_if(!was_there))
        }
    }
}

const HEAD: [&str; 7] = ["ID", "KEY", "REASON", "ATTEMPTS", "AGE", "REPLAYING", "ERROR"];

fn row(letter: &DeadLetter, reveal: bool) -> Vec<String> {
    let error = letter.error.as_ref().map_or("-", |error| if reveal { error } else { "hidden" });
    vec![
        letter.id.to_string(),
        letter.key.clone(),
        letter.reason.clone(),
        letter.attempts.to_string(),
        time(letter.age),
        if letter.is_replaying { "yes" } else { "no" }.to_owned(),
        error.split_whitespace().collect::<Vec<_>>().join(" "),
    ]
}

fn letter_json(letter: &DeadLetter, reveal: bool) -> Value {
    let mut json = json!({
        "id": letter.id,
        "operation": letter.operation,
        "key": letter.key,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "age_ms": ms(letter.age),
        "replaying": letter.is_replaying,
        "message_id": letter.message_id,
        "kind": letter.kind,
        "partition": letter.partition,
        "payload_bytes": letter.payload.as_ref().map(bytes::Bytes::len),
    });
    if let Some(object) = json.as_object_mut().filter(|_| reveal) {
        object.insert("error".to_owned(), letter.error.clone().into());
        object.insert(
            "headers".to_owned(),
            letter.headers.as_ref().map_or(Value::Null, |text| revealed(text.as_bytes())),
        );
        object.insert("payload".to_owned(), letter.payload.as_deref().map_or(Value::Null, revealed));
    }
    json
}
