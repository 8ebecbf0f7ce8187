//! The bytes of records, as this and earlier releases write them.

use proptest::prelude::*;

use super::*;

fn request() -> ClaimRequest {
    ClaimRequest::new(
        Fingerprint::from_bytes([0xF0; 32]),
        Nonce::from_bytes([0xA1; 16]),
        Duration::from_secs(30),
        Duration::from_secs(86_400),
    )
}

/// The bytes of release 0.1. Later releases read them, whatever they write.
fn golden(state: [u8; 2], fence: u64, attempt: u32, payload: &[u8]) -> Bytes {
    let mut bytes = b"IDM1".to_vec();
    bytes.extend_from_slice(&state);
    bytes.extend_from_slice(&[0xA1; 16]);
    bytes.extend_from_slice(&fence.to_be_bytes());
    bytes.extend_from_slice(&attempt.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 0x05, 0x26, 0x5C, 0x00]);
    bytes.extend_from_slice(&[0xF0; 32]);
    bytes.extend_from_slice(payload);
    Bytes::from(bytes)
}

/// The bytes of the first release with lives. Later releases read them, whatever they write.
fn later(state: [u8; 2], before: u8, since_ms: u64, rest: &[u8]) -> Bytes {
    let mut bytes = golden(state, 7, 3, b"").to_vec();
    bytes[..4].copy_from_slice(b"IDM2");
    bytes.extend_from_slice(&[0xB2; 16]);
    bytes.extend_from_slice(&2_u32.to_be_bytes());
    bytes.push(before);
    bytes.extend_from_slice(&since_ms.to_be_bytes());
    bytes.extend_from_slice(rest);
    Bytes::from(bytes)
}

#[test]
fn a_claim_is_written_as_the_golden_bytes() {
    let arguments = |arguments| request().with_arguments(Bytes::from_static(arguments));
    let context = |request: ClaimRequest| request.with_context(Arc::from("r-17"));
    for (request, expected) in [
        (request(), golden(*b"R0", 0, 1, b"")),
        (arguments(b"{\"a\":1}"), golden(*b"R2", 0, 1, b"\0\0\0\x07{\"a\":1}")),
        (arguments(b""), golden(*b"R2", 0, 1, b"\0\0\0\0")),
        (context(request()), golden(*b"R4", 0, 1, b"\0\0\0\x06\0\x04r-17")),
        (context(arguments(b"[1]")), golden(*b"R6", 0, 1, b"\0\0\0\x09\0\x04r-17[1]")),
    ] {
        let mut written = Vec::new();
        ClaimRecord::new(&request).write_to(&mut written).expect("memory");
        assert_eq!(written, expected);
        let stored = decode(&expected).expect("a record");
        assert_eq!(stored.state, RedisState::Running);
        assert_eq!(beside(&expected), Some((request.arguments, request.context)));
    }
}

#[test]
fn golden_records_are_read() {
    let cases = [
        (*b"R0", 0, 1, "", RedisState::Running),
        (*b"R1", 1_700_000_000_000_000, 7, "", RedisState::Running),
        (*b"A0", 5, 2, "", RedisState::Abandoned),
        (*b"X0", 0, 1, "", RedisState::Done(Outcome::Exhausted)),
        (*b"D0", 0, 1, "", RedisState::Done(Outcome::Dead)),
        (*b"O0", 0, 1, "{\"a\":1}", RedisState::Done(Outcome::Ok(Bytes::from_static(b"{\"a\":1}")))),
        (*b"E0", 0, 1, "", RedisState::Done(Outcome::Err(Bytes::new()))),
        (*b"U0", 0, 1, "L", RedisState::Done(Outcome::NotKept(NotKept::TooLarge))),
        (*b"U0", 0, 1, "S", RedisState::Done(Outcome::NotKept(NotKept::NotSerializable))),
    ];
    for (start, fence, attempt, payload, state) in cases {
        let record = golden(start, fence, attempt, payload.as_bytes());
        let stored = decode(&record).expect("a record");
        assert_eq!(stored.nonce.as_bytes(), &[0xA1; 16]);
        assert_eq!(stored.fence, NonZeroU64::new(fence));
        assert_eq!(stored.attempt, attempt);
        assert_eq!(stored.ttl_ms, 86_400_000);
        assert_eq!(stored.fingerprint.as_bytes(), &[0xF0; 32]);
        assert_eq!(stored.past(None), Some(Past::none(stored.nonce)));
        assert_eq!(beside(&record), Some((None, None)));
        assert_eq!(stored.state, state);
    }
}

#[test]
fn golden_records_with_arguments_are_read() {
    let done = RedisState::Done(Outcome::Ok(Bytes::from_static(b"{\"a\":1}")));
    let cases = [
        (*b"R2", "", RedisState::Running),
        (*b"R3", "", RedisState::Running),
        (*b"A2", "", RedisState::Abandoned),
        (*b"O2", "{\"a\":1}", done),
        (*b"E3", "", RedisState::Done(Outcome::Err(Bytes::new()))),
        (*b"U2", "L", RedisState::Done(Outcome::NotKept(NotKept::TooLarge))),
    ];
    for (start, payload, state) in cases {
        let payload = [b"\0\0\0\x05[1,2]", payload.as_bytes()].concat();
        let record = golden(start, 0, 1, &payload);
        assert_eq!(beside(&record), Some((Some(Bytes::from_static(b"[1,2]")), None)));
        assert_eq!(decode(&record).expect("a record").state, state);
    }
}

#[test]
fn golden_records_of_later_runs_are_read() {
    let ok = |result| RedisState::Done(Outcome::Ok(Bytes::from_static(result)));
    let none = || RedisState::Done(Outcome::NotKept(NotKept::TooLarge));
    let cases = [
        (*b"R0", "", RedisState::Running, false),
        (*b"R1", "journal", RedisState::Running, true),
        (*b"F0", "", RedisState::Failed, false),
        (*b"F0", "journal", RedisState::Failed, true),
        (*b"A0", "", RedisState::Abandoned, false),
        (*b"A0", "journal", RedisState::Abandoned, true),
        (*b"O0", "{\"a\":1}", ok(b"{\"a\":1}"), false),
        (*b"E0", "", RedisState::Done(Outcome::Err(Bytes::new())), false),
        (*b"U0", "L", none(), false),
        (*b"X0", "", RedisState::Done(Outcome::Exhausted), false),
        (*b"D0", "", RedisState::Done(Outcome::Dead), false),
    ];
    for (start, rest, state, has_steps) in cases {
        let all = [
            (0, "", b'0'),
            (2, "\0\0\0\x05[1,2]", b'F'),
            (4, "\0\0\0\x03\0\x01r", b'F'),
            (6, "\0\0\0\x08\0\x01r[1,2]", b'F'),
        ];
        for (flags, around, before) in all {
            let start = [start[0], start[1] + flags];
            let record = later(start, before, 1_700_000_000_000, format!("{around}{rest}").as_bytes());
            let stored = decode(&record).expect("a record");
            assert_eq!((stored.nonce.as_bytes(), stored.fence, stored.attempt), (&[0xA1; 16], NonZeroU64::new(7), 3));
            assert_eq!((stored.ttl_ms, stored.fingerprint.as_bytes()), (86_400_000, &[0xF0; 32]));
            let before = if flags == 0 { Before::Fresh } else { Before::Failed };
            assert_eq!(stored.past(None), Some(Past::new(Generation::from_bytes([0xB2; 16]), before, 2, has_steps)));
            let arguments = (flags & 2 != 0).then_some(Bytes::from_static(b"[1,2]"));
            assert_eq!(beside(&record), Some((arguments, (flags & 4 != 0).then(|| Arc::from("r")))));
            assert_eq!(stored.state, state);
        }
    }
}

#[test]
fn the_age_of_an_abandoned_run_needs_the_servers_time() {
    let stored = decode(&later(*b"R0", b'A', 1_700_000_000_000, b"")).expect("a record");
    assert_eq!(stored.past(None), None);
    for (now_ms, since_ms) in [(1_700_000_000_250, 250), (1_699_999_999_999, 0)] {
        let past = stored.past(Some(now_ms)).expect("a past");
        assert_eq!(past.before, Before::abandoned(Duration::from_millis(since_ms)));
    }
}

#[test]
fn leases_and_pauses_end_where_the_time_to_live_begins() {
    for (state, is_running) in [(*b"R0", true), (*b"F0", false), (*b"A0", false)] {
        let stored = decode(&later(state, b'0', 0, b"")).expect("a record");
        for (left_ms, expected) in [(86_400_001, Some(Duration::from_millis(1))), (86_400_000, None), (-1, None)] {
            let (lease, pause) = if is_running { (expected, None) } else { (None, expected) };
            assert_eq!((stored.lease_left(left_ms), stored.pause_left(left_ms)), (lease, pause));
        }
    }
}

#[test]
fn outcomes_are_written_as_they_are_read() {
    let outcomes = [
        Outcome::Ok(Bytes::from_static(b"0")),
        Outcome::Err(Bytes::new()),
        Outcome::NotKept(NotKept::TooLarge),
        Outcome::NotKept(NotKept::NotSerializable),
        Outcome::Exhausted,
        Outcome::Dead,
    ];
    for outcome in outcomes {
        let (start, payload) = encode_outcome(&outcome);
        let record = golden([start[4], start[5]], 9, 3, payload);
        assert!(record.starts_with(start));
        let finished = decode(&record).expect("a record").into_finished().expect("finished");
        assert_eq!(finished.outcome, outcome);
        assert_eq!(finished.attempt, 3);
    }
}

#[test]
fn the_result_is_not_copied() {
    let record = golden(*b"O0", 0, 1, b"result");
    let RedisState::Done(Outcome::Ok(result)) = decode(&record).expect("a record").state else {
        panic!("not a result");
    };
    assert_eq!(result.as_ptr(), record[HEADER_LEN..].as_ptr());
}

#[test]
fn what_was_never_written_is_corrupt() {
    let damaged = [
        Bytes::new(),
        Bytes::from_static(b"a string of somebody else"),
        golden(*b"R0", 0, 1, b"x"),
        golden(*b"A0", 0, 1, b"x"),
        golden(*b"U0", 0, 1, b""),
        golden(*b"U0", 0, 1, b"?"),
        golden(*b"Z0", 0, 1, b""),
        golden(*b"X0", 0, 1, b"x"),
        golden(*b"F0", 0, 1, b""),
        golden(*b"R2", 0, 1, b""),
        golden(*b"R2", 0, 1, b"\0\0\0\x02x"),
        golden(*b"R2", 0, 1, b"\0\0\0\x01xx"),
        golden(*b"O2", 0, 1, b"\0\0\x01\0x"),
        golden(*b"O2", 0, 1, b"\0\0\0"),
        golden(*b"U2", 0, 1, b"\0\0\0\x01L"),
        golden(*b"R4", 0, 1, b""),
        golden(*b"R8", 0, 1, b"\0\0\0\0"),
        golden(*b"A0", 0, 0, b""),
        golden(*b"R0", 0, 0, b""),
        golden(*b"R0", EXACT, 1, b""),
        golden(*b"R0", 0, 1, b"").slice(..HEADER_LEN - 1),
        later(*b"Z0", b'0', 0, b""),
        later(*b"X0", b'0', 0, b"x"),
        later(*b"R0", b'1', 0, b""),
        later(*b"R0", b'A', EXACT, b""),
        later(*b"R2", b'0', 0, b"\0\0\0\x02x"),
        later(*b"R0", b'0', 0, b"").slice(..HEADER_LEN + LIFE_LEN - 1),
    ];
    for bytes in damaged {
        let error = decode(&bytes).expect_err("corrupt");
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let (_, _) = (decode(&bytes), beside(&bytes));
    }
}
