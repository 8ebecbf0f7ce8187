//! A record and its times as text for people, for the command and the page alike.

use std::time::Duration;

use crate::store::{NotKept, Outcome, Record, State};

/// The facts of a record, each with its name, in the order in which people read them. Stored bytes (arguments, result, error)
/// are shown if they may be revealed, and counted else.
///
/// The texts are as they are stored: a terminal needs them [`printable`].
///
/// ```
/// # use idempotent_runtime::{Error, Idempotency, operator};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let idempotency = Idempotency::memory();
/// idempotency.call("charge").key("order-17").run(async { Ok::<_, Error>(4_200) }).await?;
///
/// let record = idempotency.inspect("charge", "order-17").await?.expect("a record");
/// let facts = operator::facts(&record, false);
/// assert!(facts.contains(&("state", "ok".to_owned())));
/// assert!(facts.contains(&("result", "4 bytes, hidden".to_owned())));
/// # Ok(()) }
/// ```
#[must_use]
pub fn facts(record: &Record, reveal: bool) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("operation", record.key.operation().to_owned()),
        ("key", record.key.key().to_owned()),
        ("key digest", record.key.digest().to_string()),
        ("state", record.state.as_str().to_owned()),
        ("attempt", record.attempt.to_string()),
        ("failed attempts", record.failed.to_string()),
    ];
    let mut say = |name, value| facts.push((name, value));
    if let State::Running { lease_left } = record.state {
        say("lease ends in", time(lease_left));
    }
    if let Some(not_before) = record.not_before {
        say("next run not before", time(not_before));
    }
    let shown = |bytes: &[u8]| {
        if reveal { String::from_utf8_lossy(bytes).into_owned() } else { format!("{} bytes, hidden", bytes.len()) }
    };
    match &record.state {
        State::Done(Outcome::Ok(bytes)) => say("result", shown(bytes)),
        State::Done(Outcome::Err(bytes)) => say("error", shown(bytes)),
        State::Done(Outcome::NotKept(why)) => say("result", not_kept(*why)),
        _ => {}
    }
    say("arguments", record.arguments.as_deref().map_or_else(|| "not recorded".to_owned(), shown));
    if let Some(context) = &record.context {
        say("context", context.to_string());
    }
    say("expires in", time(record.expires_in));
    if record.is_held() {
        say(
            "held",
            "yes: no call runs the key again until somebody resolves it, or a `reconcile` function does".to_owned(),
        );
    }
    facts
}

fn not_kept(why: NotKept) -> String {
    format!("not kept: {why}")
}

/// A time for people, in its largest unit or its two largest: `12s`, `3m20s`, `1h5m`, `6d23h`; and `no end` for the time of a record
/// that is [held](Record::is_held).
///
/// ```
/// use std::time::Duration;
/// use idempotent_runtime::operator::time;
///
/// assert_eq!(time(Duration::from_secs(3_900)), "1h5m");
/// ```
#[must_use]
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400..1_000_000_000 => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
        _ => "no end".to_owned(),
    }
}

/// The text with `\u{fffd}` in place of what would act rather than be read: control characters, which a terminal obeys, and
/// the marks that turn the direction of writing round, by which one text looks like another. A context or an error can be
/// somebody else's text.
///
/// ```
/// use idempotent_runtime::operator::printable;
///
/// assert_eq!(printable("a\u{1b}[2Jb\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}c");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
