//! What a view asks of the store: bounded looks at records, one page of the store after the other.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    error::Error,
    idempotency::Idempotency,
    operator::{Filter, Position, StateFilter},
    store::{BoxFuture, Cursor, DeadLetter, KeyDigest, Page, Record, RecordKey, Step, Token},
};

/// The most records that one view looks at, and the longest time that it takes for that.
const MAX_LOOKED_AT: u64 = 5_000;
const MAX_TIME: Duration = Duration::from_secs(2);
/// The most pages: of many keys, a store may show few records.
const MAX_PAGES: u64 = 1_000;
/// The records that are asked of the store at a time.
const PAGE_LEN: usize = 500;
/// The records that one view lists.
const LISTED: usize = 50;
/// The keys that are shown of a group.
const SHOWN: usize = 5;
/// The letters that are looked at.
const MAX_LETTERS: usize = 50;
/// The operations whose letters are looked at.
const MAX_LETTER_OPERATIONS: usize = 10;
/// The letters of each that are looked at. A letter comes with its payload.
const LETTERS_EACH: usize = 10;

/// The states that need somebody.
const NEED_SOMEBODY: [StateFilter; 4] =
    [StateFilter::Abandoned, StateFilter::Lapsed, StateFilter::Exhausted, StateFilter::Dead];

/// A record without its bytes.
pub(super) struct Line {
    pub(super) key: RecordKey,
    pub(super) state: &'static str,
    pub(super) attempt: u32,
    pub(super) is_held: bool,
    pub(super) expires_in: Duration,
    pub(super) not_before: Option<Duration>,
    pub(super) context: Option<Arc<str>>,
}

impl Line {
    fn of(record: Record) -> Self {
        Self {
            state: record.state.as_str(),
            attempt: record.attempt,
            is_held: record.is_held(),
            expires_in: record.expires_in,
            not_before: record.not_before,
            context: record.context,
            key: record.key,
        }
    }
}

/// A walk through the records, with an end.
struct Walk<'a> {
    idempotency: &'a Idempotency,
    operation: Option<&'a str>,
    /// The position of the next page.
    next: Position,
    page_len: usize,
    looked_at: u64,
    pages: u64,
    until: Instant,
    /// A store may list a record twice.
    known: HashSet<KeyDigest>,
}

impl<'a> Walk<'a> {
    fn new(idempotency: &'a Idempotency, operation: Option<&'a str>, after: Option<&str>, page_len: usize) -> Self {
        let until = Instant::now() + MAX_TIME;
        let next = after.map_or(Position::Start, |after| Position::After(Cursor::new(after)));
        Self { idempotency, operation, next, page_len, looked_at: 0, pages: 0, until, known: HashSet::new() }
    }

    /// The next records; `None` where there are no more, or this look has seen enough.
    async fn next_page(&mut self) -> Result<Option<Vec<Record>>, Error> {
        let after = match &self.next {
            Position::Start => None,
            Position::After(cursor) => Some(cursor),
            Position::End => return Ok(None),
        };
        let is_enough = self.looked_at >= MAX_LOOKED_AT || self.pages >= MAX_PAGES;
        if is_enough || (self.pages > 0 && Instant::now() >= self.until) {
            return Ok(None);
        }
        let Page { mut records, next } = self.idempotency.list(self.operation, after, self.page_len).await?;
        self.next = next.map_or(Position::End, Position::After);
        self.pages += 1;
        records.retain(|record| self.known.insert(record.key.digest()));
        self.looked_at += records.len() as u64;
        Ok(Some(records))
    }

    /// The position from which another look goes on; `None` at the end of the records.
    fn rest(self) -> Option<String> {
        match self.next {
            Position::After(cursor) => Some(cursor.as_str().to_owned()),
            Position::Start | Position::End => None,
        }
    }
}

/// Records of one operation that need somebody, for one cause.
#[derive(Default)]
pub(super) struct Group {
    pub(super) count: u64,
    pub(super) first: Vec<Line>,
}

/// The records, as the start view shows them.
#[derive(Default)]
pub(super) struct Overview {
    /// By operation and state.
    pub(super) need: BTreeMap<(String, &'static str), Group>,
    /// The number of records by operation, and then by state.
    pub(super) counts: BTreeMap<String, BTreeMap<&'static str, u64>>,
    pub(super) looked_at: u64,
    pub(super) rest: Option<String>,
}

pub(super) async fn overview(idempotency: &Idempotency, after: Option<&str>) -> Result<Overview, Error> {
    let mut walk = Walk::new(idempotency, None, after, PAGE_LEN);
    let mut overview = Overview::default();
    while let Some(records) = walk.next_page().await? {
        for record in records {
            let (operation, state) = (record.key.operation().to_owned(), record.state.as_str());
            *overview.counts.entry(operation.clone()).or_default().entry(state).or_default() += 1;
            if NEED_SOMEBODY.iter().any(|need| need.as_str() == state) {
                let group = overview.need.entry((operation, state)).or_default();
                group.count += 1;
                if group.first.len() < SHOWN {
                    group.first.push(Line::of(record));
                }
            }
        }
    }
    (overview.looked_at, overview.rest) = (walk.looked_at, walk.rest());
    Ok(overview)
}

/// A page of records.
pub(super) struct Listing {
    pub(super) lines: Vec<Line>,
    pub(super) looked_at: u64,
    pub(super) rest: Option<String>,
}

/// The records of an operation, in a state, with a digest; all where nothing is asked for.
#[derive(Default)]
pub(super) struct Asked<'a> {
    pub(super) operation: Option<&'a str>,
    pub(super) state: Option<StateFilter>,
    pub(super) digest: Option<KeyDigest>,
    pub(super) after: Option<&'a str>,
}

pub(super) async fn listing(idempotency: &Idempotency, asked: &Asked<'_>) -> Result<Listing, Error> {
    let mut filter = Filter::new();
    if let Some(state) = asked.state {
        filter = filter.state(state);
    }
    if let Some(digest) = asked.digest {
        filter = filter.digest(digest);
    }
    // Where all records pass, none is read in vain.
    let is_all = asked.state.is_none() && asked.digest.is_none();
    let mut walk = Walk::new(idempotency, asked.operation, asked.after, if is_all { LISTED } else { PAGE_LEN });
    let mut lines = Vec::new();
    while lines.len() < LISTED
        && let Some(records) = walk.next_page().await?
    {
        lines.extend(records.into_iter().filter(|record| filter.lets_pass(record)).map(Line::of));
        if asked.digest.is_some() && !lines.is_empty() {
            walk.next = Position::End;
        }
    }
    Ok(Listing { lines, looked_at: walk.looked_at, rest: walk.rest() })
}

/// Finds the record that an operator means: by the key as it is listed, or as the value that the function was called with.
pub(super) async fn find(idempotency: &Idempotency, operation: &str, key: &str) -> Result<Option<RecordKey>, Error> {
    let listed = listed_key(operation, key);
    let text = idempotency.encode_key(operation, key).ok();
    let number = key.parse::<i64>().ok().and_then(|number| idempotency.encode_key(operation, &number).ok());
    for key in listed.into_iter().chain(text).chain(number) {
        if idempotency.inspect_record(&key).await?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// The key of a record, from its two halves as they are listed.
pub(super) fn listed_key(operation: &str, key: &str) -> Option<RecordKey> {
    let is_one = !operation.contains(RecordKey::SEPARATOR);
    format!("{operation}{}{key}", RecordKey::SEPARATOR).parse().ok().filter(|_| is_one)
}

/// Dead letters of one operation, given up for one reason.
#[derive(Default)]
pub(super) struct LetterGroup {
    pub(super) count: u64,
    pub(super) first: Vec<DeadLetter>,
}

/// The dead letters, as the start view shows them.
#[derive(Default)]
pub(super) struct Letters {
    /// By operation and reason.
    pub(super) groups: BTreeMap<(String, String), LetterGroup>,
    /// True where there are more than were looked at.
    pub(super) is_cut: bool,
}

/// The first dead letters of the first operations that have some; `None` where the store keeps none.
pub(super) async fn letters(idempotency: &Idempotency) -> Result<Option<Letters>, Error> {
    let Some(store) = idempotency.store().dead_letters() else { return Ok(None) };
    let operations = store.operations("", MAX_LETTER_OPERATIONS + 1).await?;
    let mut letters = Letters { is_cut: operations.len() > MAX_LETTER_OPERATIONS, ..Letters::default() };
    for operation in operations.into_iter().take(MAX_LETTER_OPERATIONS) {
        let page = store.letters(&operation, 0, LETTERS_EACH + 1).await?;
        letters.is_cut |= page.len() > LETTERS_EACH;
        for letter in page.into_iter().take(LETTERS_EACH).filter(|letter| !letter.is_replaying) {
            let group = letters.groups.entry((operation.clone(), letter.reason.clone())).or_default();
            group.count += 1;
            if group.first.len() < SHOWN {
                group.first.push(letter);
            }
        }
    }
    Ok(Some(letters))
}

/// The dead letters of a record, among the first of its operation.
pub(super) async fn letters_of(idempotency: &Idempotency, key: &RecordKey) -> Result<Vec<DeadLetter>, Error> {
    let Some(store) = idempotency.store().dead_letters() else { return Ok(Vec::new()) };
    let mut letters = store.letters(key.operation(), 0, MAX_LETTERS).await?;
    letters.retain(|letter| letter.key == key.key());
    Ok(letters)
}

/// The steps that a run has recorded, while it is on record as running.
pub(super) async fn steps(idempotency: &Idempotency, record: &Record) -> Result<Option<Vec<Step>>, Error> {
    Ok(idempotency.store().steps(&record.key, &Token::new(record.owner)).await?)
}

/// A message that its broker will never take.
pub(super) struct ParkedMessage {
    pub(super) id: String,
    pub(super) topic: String,
    pub(super) error: String,
    pub(super) age: Duration,
}

/// Asks an outbox for its parked messages, the oldest first, one more than are shown.
pub(super) type ParkedHook = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<ParkedMessage>, Error>> + Send + Sync>;

/// The parked messages that are shown.
pub(super) const MAX_PARKED: usize = 20;

#[cfg(all(feature = "outbox", any(feature = "postgres", feature = "sqlite")))]
pub(super) fn parked_hook<DB: crate::outbox::OutboxDatabase>(
    outbox: crate::outbox::Outbox,
    pool: sqlx::Pool<DB>,
) -> ParkedHook {
    Arc::new(move || {
        let (outbox, pool) = (outbox.clone(), pool.clone());
        Box::pin(async move {
            let parked = outbox.first_parked(&pool, MAX_PARKED + 1).await?;
            let shown = |parked: crate::outbox::Parked| ParkedMessage {
                id: parked.message.id,
                topic: parked.message.topic,
                error: parked.error,
                age: parked.age,
            };
            Ok(parked.into_iter().map(shown).collect())
        })
    })
}
