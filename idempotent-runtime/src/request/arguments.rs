//! A call's arguments as JSON, where they are recorded.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    error::ArgumentsError,
    fingerprint::{self, Fingerprint},
};

const NO_JSON: &str = "what is to be recorded cannot be written as JSON";
const TOO_LONG: &str = "what is to be recorded is longer than `max_arguments_len`";

/// The longest name that an error repeats.
const MAX_NAME_LEN: usize = 64;

/// The request of a call.
pub(crate) struct Request {
    pub(crate) fingerprint: Fingerprint,
    /// The arguments in JSON, where they are recorded.
    pub(crate) arguments: Option<Bytes>,
}

impl Request {
    /// The request of one value of arguments, recorded in up to so many bytes where there is a limit.
    pub(crate) fn of<A: Serialize + ?Sized>(
        arguments: &A,
        recorded_len: Option<usize>,
    ) -> Result<Self, ArgumentsError> {
        let fingerprint = Fingerprint::of(arguments)?;
        let arguments = recorded_len.map(|max_len| json(arguments, max_len)).transpose()?;
        Ok(Self { fingerprint, arguments })
    }
}

/// The named arguments of one call, hashed and, where they are recorded, written as JSON.
pub(crate) struct Arguments {
    hashed: fingerprint::Arguments,
    recorded: Option<Recorder>,
}

impl Arguments {
    /// Starts a list of `count` arguments, recorded in up to so many bytes where there is a limit.
    pub(crate) fn new(count: usize, recorded_len: Option<usize>) -> Self {
        Self { hashed: fingerprint::Arguments::new(count), recorded: recorded_len.map(Recorder::new) }
    }

    /// Adds one. Names come in ascending order, each once.
    pub(crate) fn argument<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.hashed.argument(name, value);
        if let Some(recorded) = &mut self.recorded {
            recorded.argument(name, value);
        }
    }

    /// Their fingerprint, and their JSON where they are recorded.
    ///
    /// # Errors
    ///
    /// The first argument that cannot be hashed, or not be recorded.
    pub(crate) fn finish(self) -> Result<Request, ArgumentsError> {
        let fingerprint = self.hashed.finish()?;
        Ok(Request { fingerprint, arguments: self.recorded.map(Recorder::finish).transpose()? })
    }
}

/// Named arguments on their way into one JSON object.
struct Recorder {
    json: Limited,
    error: Option<ArgumentsError>,
}

impl Recorder {
    /// Starts an object of at most `max_len` bytes.
    const fn new(max_len: usize) -> Self {
        Self { json: Limited { bytes: Vec::new(), max_len }, error: None }
    }

    /// Adds an argument.
    // Instantiated once per argument type, and rarely needed: `cold` keeps it out of the way.
    #[cold]
    fn argument<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        if self.error.is_some() {
            return;
        }
        let before: &[u8] = if self.json.bytes.is_empty() { b"{" } else { b"," };
        let written = self
            .json
            .punctuation(before)
            .and_then(|()| self.json.value(name))
            .and_then(|()| self.json.punctuation(b":"))
            .and_then(|()| self.json.value(value));
        self.error = written.err().map(|reason| ArgumentsError { argument: name, reason });
    }

    /// The object.
    ///
    /// # Errors
    ///
    /// The first argument that has no JSON, or with which they became too long.
    #[cold]
    fn finish(mut self) -> Result<Bytes, ArgumentsError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let rest: &[u8] = if self.json.bytes.is_empty() { b"{}" } else { b"}" };
        self.json.punctuation(rest).map_err(|reason| ArgumentsError { argument: "", reason })?;
        Ok(self.json.into_bytes())
    }
}

/// Writes a value as at most `max_len` bytes of JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T, max_len: usize) -> Result<Bytes, ArgumentsError> {
    let mut json = Limited { bytes: Vec::new(), max_len };
    json.value(value).map_err(|reason| ArgumentsError { argument: "", reason })?;
    Ok(json.into_bytes())
}

/// A buffer that refuses to grow beyond `max_len` bytes.
struct Limited {
    bytes: Vec<u8>,
    max_len: usize,
}

impl Limited {
    /// Writes a value. The error leaves serde's own text out, which can quote the value.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), &'static str> {
        serde_json::to_writer(self, value).map_err(|error| if error.is_io() { TOO_LONG } else { NO_JSON })
    }

    fn punctuation(&mut self, text: &[u8]) -> Result<(), &'static str> {
        io::Write::write_all(self, text).map_err(|_| TOO_LONG)
    }

    /// Gives the bytes without spare capacity: a store may keep them for long.
    fn into_bytes(self) -> Bytes {
        self.bytes.into_boxed_slice().into()
    }
}

impl io::Write for Limited {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.max_len {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names of arguments that a call gives in another way than a record of another request.
///
/// The answer has only plain names, and nothing of the record: the keys of a map can be any text.
pub(crate) fn differing(ours: &[u8], recorded: &[u8]) -> Arc<[String]> {
    let (Some(ours), Some(recorded)) = (object(ours), object(recorded)) else { return Arc::default() };
    let differing = ours.into_iter().filter_map(|(name, ours)| {
        let recorded = recorded.get(&name).copied();
        let differs = recorded.is_none_or(|recorded| recorded.get() != ours.get());
        (differs && is_plain(&name)).then(|| {
            let surely = recorded.is_none_or(|recorded| !may_be_equal(ours, recorded));
            (name, surely)
        })
    });
    let (surely, maybe): (Vec<_>, Vec<_>) = differing.partition(|(_, surely)| *surely);
    // The fingerprints differ, so at least one of these does.
    let chosen = if surely.is_empty() { maybe } else { surely };
    chosen.into_iter().map(|(name, _)| name).collect()
}

/// The names of arguments that differ although each may be written by more than one type; `None` where none does for sure.
///
/// The fingerprint of what JSON is read from is not known: `1` may be an integer or a float, and a sequence a set.
pub(crate) fn surely_differing(ours: &[u8], recorded: &[u8]) -> Option<Vec<String>> {
    let (ours, recorded): (Value, Value) = (serde_json::from_slice(ours).ok()?, serde_json::from_slice(recorded).ok()?);
    let (Value::Object(ours), Value::Object(recorded)) = (&ours, &recorded) else {
        return (!looks_equal(&ours, &recorded)).then(Vec::new);
    };
    let mut names: Vec<_> = ours.keys().chain(recorded.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| match (ours.get(*name), recorded.get(*name)) {
        (Some(ours), Some(recorded)) => !looks_equal(ours, recorded),
        _ => true,
    });
    // A name that only the record has may be any text: it is not told.
    let plain = names.iter().filter(|name| is_plain(name) && ours.contains_key(**name));
    let plain = plain.map(|name| (*name).clone()).collect();
    (!names.is_empty()).then_some(plain)
}

/// True if values of some types are equal and have these texts.
fn looks_equal(ours: &Value, recorded: &Value) -> bool {
    match (ours, recorded) {
        (Value::Number(ours), Value::Number(recorded)) => ours == recorded || ours.as_f64() == recorded.as_f64(),
        (Value::Array(ours), Value::Array(recorded)) => {
            let mut rest: Vec<_> = recorded.iter().collect();
            ours.len() == recorded.len()
                && ours.iter().all(|one| {
                    let found = rest.iter().position(|other| looks_equal(one, other));
                    found.map(|place| rest.swap_remove(place)).is_some()
                })
        }
        (Value::Object(ours), Value::Object(recorded)) => {
            ours.len() == recorded.len()
                && ours.iter().all(|(name, one)| recorded.get(name).is_some_and(|other| looks_equal(one, other)))
        }
        _ => ours == recorded,
    }
}

fn object(json: &[u8]) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_slice(json).ok()
}

fn is_plain(name: &str) -> bool {
    name.len() <= MAX_NAME_LEN && name.chars().all(|character| character.is_alphanumeric() || character == '_')
}

/// True if texts that differ may be of equal values: JSON has sequences for sets and maps, in the order in which they
/// were iterated, and large numbers are rounded as they are read here.
fn may_be_equal(ours: &RawValue, theirs: &RawValue) -> bool {
    let sorted = |json: &RawValue| {
        let mut value: Value = serde_json::from_str(json.get()).ok()?;
        sort(&mut value);
        Some(value)
    };
    // A text that cannot be read is not known to differ.
    let (Some(ours), Some(theirs)) = (sorted(ours), sorted(theirs)) else { return true };
    // By their fingerprints: numbers with the feature `arbitrary_precision` of `serde_json` compare by their text.
    matches!((Fingerprint::of(&ours), Fingerprint::of(&theirs)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

fn sort(value: &mut Value) {
    match value {
        Value::Array(elements) => {
            elements.iter_mut().for_each(sort);
            elements.sort_by_cached_key(Value::to_string);
        }
        Value::Object(fields) => {
            fields.values_mut().for_each(sort);
            fields.sort_keys();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn recorded(max_len: usize, fill: impl FnOnce(&mut Recorder)) -> Result<Bytes, ArgumentsError> {
        let mut recorder = Recorder::new(max_len);
        fill(&mut recorder);
        recorder.finish()
    }

    #[test]
    fn arguments_are_fields_of_one_object() {
        assert_eq!(recorded(2, |_| ()).unwrap(), "{}");
        let three = |recorder: &mut Recorder| {
            recorder.argument("amount", &4_200);
            recorder.argument("größe", &None::<u8>);
            recorder.argument("order", "o\"17");
        };
        let expected = "{\"amount\":4200,\"größe\":null,\"order\":\"o\\\"17\"}";
        assert_eq!(recorded(expected.len(), three).unwrap(), expected);
        assert!(recorded(expected.len() - 1, three).is_err(), "one byte too long");
        assert_eq!(json(&[1, 2], 5).unwrap(), "[1,2]");
        assert!(json(&[1, 2], 4).is_err());
    }

    #[test]
    fn the_first_that_cannot_be_recorded_is_named() {
        let refused = recorded(100, |recorder| {
            recorder.argument("fine", &1);
            recorder.argument("map", &BTreeMap::from([((1, 2), 3)]));
            recorder.argument("long", &"x".repeat(200));
        });
        let error = refused.unwrap_err();
        assert_eq!(error.argument(), "map");
        assert!(error.to_string().contains("JSON"), "{error}");
        let error = recorded(100, |recorder| recorder.argument("long", &"x".repeat(200))).unwrap_err();
        assert_eq!(error.argument(), "long");
        assert!(error.to_string().contains("max_arguments_len"), "{error}");
    }

    fn names(ours: &str, recorded: &str) -> Vec<String> {
        differing(ours.as_bytes(), recorded.as_bytes()).to_vec()
    }

    #[test]
    fn names_of_what_differs() {
        let base = r#"{"amount":1,"order":"a","tags":["x","y"],"to":{"b":[1,2],"a":1}}"#;
        assert_eq!(names(base, base), [""; 0]);
        for (other, expected) in [
            (r#"{"amount":2,"order":"a","tags":["x","y"],"to":{"b":[1,2],"a":1}}"#, vec!["amount"]),
            (r#"{"amount":1.0,"order":"b","tags":["x","y"],"to":{"b":[1,2],"a":1}}"#, vec!["amount", "order"]),
            (r#"{"amount":1,"order":"a","tags":["x"],"to":{"b":[1,3],"a":1}}"#, vec!["tags", "to"]),
            // Added in a release after the record, or gone since.
            (r#"{"amount":1,"tags":["x","y"],"to":{"b":[1,2],"a":1},"secret":1}"#, vec!["order"]),
            // A set and a map in another order, beside what differs for sure.
            (r#"{"amount":2,"order":"a","tags":["y","x"],"to":{"a":1,"b":[2,1]}}"#, vec!["amount"]),
            // Nothing else: it was a sequence.
            (r#"{"amount":1,"order":"a","tags":["y","x"],"to":{"b":[1,2],"a":1}}"#, vec!["tags"]),
        ] {
            assert_eq!(names(base, other), expected, "{other}");
        }
        assert_eq!(
            names(
                r#"{"n":340282366920938463463374607431768211455}"#,
                r#"{"n":340282366920938463463374607431768211454}"#
            ),
            ["n"]
        );
    }

    #[test]
    fn a_set_is_in_any_order() {
        let set = |salt: u32| json(&(0..50).map(|n| n ^ salt).collect::<HashSet<u32>>(), 1000).unwrap();
        let request = |amount: u8, salt| {
            recorded(10_000, |recorder| {
                recorder.argument("amount", &amount);
                recorder.argument("tags", &serde_json::from_slice::<Value>(&set(salt)).unwrap());
            })
            .unwrap()
        };
        assert_eq!(differing(&request(1, 0), &request(2, 0)).to_vec(), ["amount"]);
        assert_eq!(differing(&request(1, 0), &request(2, 64)).to_vec(), ["amount", "tags"]);
    }

    #[test]
    fn what_json_tells_apart_for_sure() {
        let recorded = r#"{"amount":1.0,"big":18446744073709551615,"tags":["x",{"b":2,"a":1}],"to":null}"#;
        let sure = |ours: &str| surely_differing(ours.as_bytes(), recorded.as_bytes());
        assert_eq!(sure(recorded), None);
        // A float that is written as an integer, and what may be a set.
        assert_eq!(sure(r#"{"amount":1,"to":null,"tags":[{"a":1.0,"b":2},"x"],"big":18446744073709551615}"#), None);
        let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            sure(r#"{"amount":2,"to":0,"tags":["x",{"b":2,"a":1}],"big":18446744073709551615}"#),
            names(&["amount", "to"])
        );
        assert_eq!(
            sure(r#"{"amount":1,"to":null,"tags":["x","x"],"big":18446744073709551615,"a b":1}"#),
            names(&["tags"])
        );
        assert_eq!(sure("{}"), names(&[]), "names that only the record has are not told");
        assert_eq!((sure("[1]"), sure("no JSON")), (names(&[]), None));
    }

    #[test]
    fn only_plain_names_of_our_own_are_told() {
        let ours = r#"{"a b":1,"canary@example.org":1,"\n":1,"fine_1":1,"Ü":1}"#;
        assert_eq!(names(ours, r#"{"canary":2}"#), ["fine_1", "Ü"]);
        assert_eq!(names(&format!("{{\"{}\":1}}", "x".repeat(65)), "{}"), [""; 0]);
        for (ours, recorded) in [("[1]", "[2]"), ("1", "2"), ("{\"a\":1}", "canary"), ("{\"a\":1}", "[]"), ("", "{}")] {
            assert_eq!(names(ours, recorded), [""; 0]);
        }
        let deep = |n| format!("{{\"deep\":{}{n}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(names(&deep(1), &deep(2)), ["deep"]);
    }
}
