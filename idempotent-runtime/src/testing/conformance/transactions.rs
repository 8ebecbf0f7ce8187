//! Steps in a transaction of the caller's, of stores that offer them: a run that was claimed outside ends in it, or a claim is
//! made in it. What is committed is committed as a whole.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    BegunTransaction,
    subject::{LONG, Stage, Subject, applied, claim, ok, request, suspend, suspended},
    wakes::{subscribe, woken},
};
use crate::{
    Store,
    store::{
        Appended, ClaimOutcome, Nonce, NotKept, Outcome, RecordKey, State, Step, StoreResult, Suspension, Token, Why,
    },
};

/// For which the end's session may be idle: longer than a rule takes.
const IDLE: Duration = Duration::from_secs(60);
/// A duplicate outside of the transaction is answered within this.
const WAIT: Duration = Duration::from_secs(5);
/// The time in which a step that does not wait for a transaction would have been answered.
const AT_ONCE: Duration = Duration::from_millis(100);
const SAVEPOINT: &str = "idempotent_rule";

/// A transaction of a rule, and the store's steps in it.
struct Open<'s> {
    subject: &'s Subject,
    transaction: Box<dyn BegunTransaction>,
}

impl<'s> Open<'s> {
    async fn begin(subject: &'s Subject) -> Self {
        Self { subject, transaction: subject.begin().await }
    }

    async fn owns(&mut self, key: &RecordKey, token: &Token) -> bool {
        self.subject.transactional().owns(self.transaction.connection(), key, token).await.expect("owns")
    }

    async fn end(&mut self, key: &RecordKey, token: &Token, outcome: &Outcome, ttl: Duration) -> bool {
        let connection = self.transaction.connection();
        self.subject.transactional().end(connection, key, token, outcome, ttl, IDLE).await.expect("end")
    }

    /// The state that the transaction sees.
    async fn state(&mut self, key: &RecordKey) -> Option<State> {
        let record = self.subject.transactional().inspect(self.transaction.connection(), key).await.expect("inspect");
        record.map(|record| record.state)
    }

    /// Claims a vacant key in the transaction, after a savepoint.
    async fn claim(&mut self, key: &RecordKey) -> Token {
        let store = self.subject.transactional();
        store.savepoint(self.transaction.connection(), SAVEPOINT).await.expect("a savepoint");
        let request = request();
        match store.claim(self.transaction.connection(), key, &request, WAIT).await.expect("claim") {
            ClaimOutcome::Claimed { token, attempt: 1, .. } => {
                assert_eq!(token.nonce, request.nonce, "the token names another claim");
                assert!(token.fence.is_some(), "a claim in a transaction has its fence");
                token
            }
            other => panic!("expected the claim to be granted, got {other:?}"),
        }
    }

    async fn complete(&mut self, key: &RecordKey, token: &Token, outcome: &Outcome) {
        let connection = self.transaction.connection();
        self.subject.transactional().complete(connection, key, token, outcome, LONG).await.expect("complete");
    }

    async fn keep(&mut self) {
        self.subject.transactional().keep(self.transaction.connection(), SAVEPOINT).await.expect("keep");
    }

    async fn undo(&mut self) {
        self.subject.transactional().undo(self.transaction.connection(), SAVEPOINT).await.expect("undo");
    }

    /// Writes something that is there if the transaction is committed: another key's record.
    async fn write(&mut self, key: &RecordKey) {
        let token = self.claim(key).await;
        self.complete(key, &token, &ok(b"written")).await;
        self.keep().await;
    }

    async fn commit(self) {
        assert!(self.transaction.commit().await, "the database refused the commit");
    }

    async fn roll_back(self) {
        self.transaction.roll_back().await;
    }

    /// Tries to commit what must not be.
    async fn commit_in_vain(self, written: &RecordKey, what: &str) {
        let Self { subject, transaction } = self;
        let _ = transaction.commit().await;
        assert_eq!(subject.record(written).await, None, "{what}: it was committed");
    }
}

pub(super) async fn offers_no_transactions(subject: &Subject) {
    for store in subject.both() {
        assert!(store.transactional().is_none(), "the store offers `Transactional`, and its suite does not name that");
    }
}

pub(super) async fn an_end_is_seen_once_it_is_committed(subject: &Subject) {
    let (key, written) = (subject.key("k"), subject.key("written"));
    let token = subject.run(&key).await;
    let mut open = Open::begin(subject).await;
    assert!(open.owns(&key, &token).await);
    open.write(&written).await;
    assert!(open.end(&key, &token, &ok(b"1"), LONG).await);
    assert!(!open.owns(&key, &token).await, "its run has ended");
    assert_eq!(open.state(&key).await, Some(State::Done(ok(b"1"))));
    // Others would rely on what may still be rolled back.
    for store in subject.both() {
        let answer = claim(store, &key, &request()).await;
        assert!(matches!(answer, ClaimOutcome::InFlight { .. }), "{answer:?} before the commit");
        assert!(store.peek(&key).is_none());
    }
    assert!(matches!(subject.state(&key).await, Some(State::Running { .. })));
    assert_eq!(subject.record(&written).await, None);
    open.commit().await;
    assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"1"))));
    assert_eq!(subject.state(&written).await, Some(State::Done(ok(b"written"))));
    for store in subject.both() {
        match claim(store, &key, &request()).await {
            ClaimOutcome::Done(finished) => assert_eq!((finished.outcome, finished.attempt), (ok(b"1"), 1)),
            other => panic!("expected Done, got {other:?}"),
        }
        // It is the run's own end for all other steps.
        applied(store.complete(&key, &token, &ok(b"2"), LONG).await);
        let answer = suspend(store, &key, &token, Why::Failed).await.expect("suspend");
        assert_eq!(answer, Suspension::ended(ok(b"1"), true));
    }
    assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"1"))));
}

pub(super) async fn an_end_that_is_rolled_back_leaves_the_claim(subject: &Subject) {
    for next in ["renew", "complete", "suspend", "release", "end"] {
        let (key, written) = (subject.key(next), subject.key(format_args!("written-{next}")));
        let token = subject.run(&key).await;
        let before = subject.record(&key).await;
        let mut open = Open::begin(subject).await;
        open.write(&written).await;
        assert!(open.end(&key, &token, &ok(b"1"), LONG).await);
        open.roll_back().await;
        subject.unchanged(&key, before.as_ref(), "an end that was rolled back").await;
        assert_eq!(subject.record(&written).await, None);
        match next {
            "renew" => applied(subject.b().renew(&key, &token, LONG, LONG).await),
            "complete" => applied(subject.b().complete(&key, &token, &ok(b"2"), LONG).await),
            "suspend" => suspended(suspend(subject.b(), &key, &token, Why::Failed).await),
            "release" => applied(subject.b().release(&key, &token, LONG).await),
            _ => {
                let mut again = Open::begin(subject).await;
                assert!(again.owns(&key, &token).await);
                assert!(again.end(&key, &token, &ok(b"2"), LONG).await);
                again.commit().await;
                assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"2"))));
            }
        }
    }
}

pub(super) async fn end_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let (key, written) = (subject.key(format_args!("{stage:?}")), subject.key(format_args!("written-{stage:?}")));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        let mut open = Open::begin(subject).await;
        open.write(&written).await;
        let has_ended = open.end(&key, &token, &ok(b"end"), LONG).await;
        // A run that has ended is not ended again: what this transaction wrote was not in its end.
        assert_eq!(has_ended, matches!(stage, Stage::Running | Stage::Lapsed), "{stage:?}");
        if has_ended {
            open.commit().await;
            assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"end"))), "{stage:?}");
            assert!(subject.record(&written).await.is_some(), "{stage:?}");
        } else {
            open.commit_in_vain(&written, &format!("{stage:?}")).await;
            subject.unchanged(&key, before.as_ref(), "an end in vain").await;
        }
    }
}

/// It is a stranger's, or another run's by now.
pub(super) async fn nothing_is_committed_without_the_claim(subject: &Subject) {
    for stage in [Stage::Lapsed, Stage::Abandoned, Stage::Failed, Stage::Released, Stage::Forgotten, Stage::Expired] {
        for is_done in [false, true] {
            let name = format!("{stage:?}-{is_done}");
            let (key, written) = (subject.key(&name), subject.key(format_args!("written-{name}")));
            let late = subject.bring(&key, stage).await;
            let owner = subject.take(subject.b(), &key, &request()).await.token;
            if is_done {
                applied(subject.b().complete(&key, &owner, &ok(b"owner"), LONG).await);
            }
            let before = subject.record(&key).await;
            for token in [late, Token::new(Nonce::random()).with_fence(owner.fence)] {
                let mut open = Open::begin(subject).await;
                assert!(!open.owns(&key, &token).await, "{name}");
                open.write(&written).await;
                assert!(!open.end(&key, &token, &ok(b"late"), LONG).await, "{name}");
                open.commit_in_vain(&written, &name).await;
                subject.unchanged(&key, before.as_ref(), "a late owner").await;
            }
        }
    }
}

/// By one of two, while the transaction is open. The other one fails.
pub(super) async fn a_lapsed_run_is_taken_over_or_ended(subject: &Subject) {
    let (key, written) = (subject.key("k"), subject.key("written"));
    let token = subject.lapse(&key).await;
    let mut open = Open::begin(subject).await;
    assert!(open.owns(&key, &token).await);
    open.write(&written).await;
    let (other, claimed, request) = (subject.shared(1), key.clone(), request());
    let mut taking_over = tokio::spawn(async move { answered(|| other.claim(&claimed, &request)).await });
    if subject.transactional().is_exclusive() {
        assert!(timeout(AT_ONCE, &mut taking_over).await.is_err(), "taken over while its transaction was open");
        assert!(open.end(&key, &token, &ok(b"1"), LONG).await);
        open.commit().await;
        let answer = taking_over.await.expect("an answer");
        assert!(matches!(answer, ClaimOutcome::Done(_)), "{answer:?}");
    } else {
        let answer = taking_over.await.expect("an answer");
        assert!(matches!(answer, ClaimOutcome::Claimed { attempt: 2, .. }), "{answer:?}");
        assert!(!open.end(&key, &token, &ok(b"1"), LONG).await);
        open.commit_in_vain(&written, "the late owner's transaction").await;
        assert!(matches!(subject.state(&key).await, Some(State::Running { .. })));
    }
}

pub(super) async fn owns_in_every_state(subject: &Subject) {
    for stage in Stage::all() {
        let key = subject.key(format_args!("{stage:?}"));
        let token = subject.bring(&key, stage).await;
        let before = subject.record(&key).await;
        let mut open = Open::begin(subject).await;
        assert_eq!(open.owns(&key, &token).await, matches!(stage, Stage::Running | Stage::Lapsed), "{stage:?}");
        assert!(!open.owns(&key, &Token::new(Nonce::random())).await, "{stage:?}: a stranger");
        open.commit().await;
        subject.unchanged(&key, before.as_ref(), "a look").await;
    }
}

pub(super) async fn every_outcome_is_committed(subject: &Subject) {
    let every_byte: Bytes = (0..=255).collect();
    let outcomes = [
        Outcome::Ok(every_byte.clone()),
        Outcome::Ok(Bytes::new()),
        Outcome::Ok(vec![b'r'; 1 << 20].into()),
        Outcome::Err(every_byte),
        Outcome::NotKept(NotKept::TooLarge),
        Outcome::NotKept(NotKept::NotSerializable),
        Outcome::Exhausted,
        Outcome::Dead,
    ];
    let arguments = Some(Bytes::from_static(b"{\"amount\":4200}"));
    for (number, outcome) in outcomes.iter().enumerate() {
        let key = subject.key(number);
        let token = subject.take(subject.a(), &key, &request().with_arguments(arguments.clone())).await.token;
        let mut open = Open::begin(subject).await;
        assert!(open.end(&key, &token, outcome, LONG).await);
        open.commit().await;
        let record = subject.record(&key).await.expect("a record");
        assert!(record.state == State::Done(outcome.clone()), "outcome {number} came back as another one");
        assert_eq!(record.arguments, arguments);
    }
}

pub(super) async fn a_committed_record_is_kept_for_its_ttl(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let ttl = subject.short_ttl();
    let mut open = Open::begin(subject).await;
    assert!(open.end(&key, &token, &ok(b"1"), ttl).await);
    open.commit().await;
    subject.advance(ttl.saturating_sub(subject.tick())).await;
    assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"1"))), "gone too early");
    subject.advance(subject.tick()).await;
    assert_eq!(subject.record(&key).await, None, "kept for too long");
}

pub(super) async fn the_journal_ends_with_the_commit(subject: &Subject) {
    let key = subject.key("k");
    let token = subject.run(&key).await;
    let step = Step::new("charge".to_owned(), Ok(Bytes::from_static(b"1")));
    let answer = subject.a().append(&key, &token, &step, LONG, LONG).await.expect("append");
    assert_eq!(answer, Appended::Applied);
    for is_committed in [false, true] {
        let mut open = Open::begin(subject).await;
        assert!(open.end(&key, &token, &ok(b"1"), subject.tick()).await);
        if is_committed {
            open.commit().await;
        } else {
            open.roll_back().await;
            let steps = subject.b().steps(&key, &token).await.expect("steps");
            assert_eq!(steps.as_deref(), Some(&[step.clone()][..]), "the rollback took the journal");
        }
    }
    subject.advance(subject.tick()).await;
    let next = subject.take(subject.b(), &key, &request()).await;
    assert!(!next.past.has_steps);
    assert_eq!(subject.a().steps(&key, &next.token).await.expect("steps"), Some(Vec::new()));
}

/// So it tells what became of a commit that was not answered.
pub(super) async fn a_suspension_waits_for_the_end(subject: &Subject) {
    for is_committed in [true, false] {
        let key = subject.key(is_committed);
        let token = subject.run(&key).await;
        let mut open = Open::begin(subject).await;
        assert!(open.end(&key, &token, &ok(b"1"), LONG).await);
        let (other, asked) = (subject.shared(1), key.clone());
        let suspension = move || {
            let (other, asked) = (Arc::clone(&other), asked.clone());
            async move { suspend(&*other, &asked, &token, Why::Failed).await }
        };
        let mut suspending = tokio::spawn(async move { answered(suspension).await });
        assert!(timeout(AT_ONCE, &mut suspending).await.is_err(), "answered before the transaction has ended");
        let expected = if is_committed {
            open.commit().await;
            Suspension::ended(ok(b"1"), true)
        } else {
            open.roll_back().await;
            Suspension::Applied
        };
        assert_eq!(suspending.await.expect("an answer"), expected);
        let state = subject.state(&key).await;
        assert_eq!(state, Some(if is_committed { State::Done(ok(b"1")) } else { State::Failed }));
    }
}

pub(super) async fn a_committed_end_wakes(subject: &Subject) {
    for (number, store) in subject.both().into_iter().enumerate() {
        let key = subject.key(number);
        let token = subject.run(&key).await;
        let mut subscription = subscribe(store, &key).await;
        let mut open = Open::begin(subject).await;
        assert!(open.end(&key, &token, &ok(b"1"), LONG).await);
        open.commit().await;
        subject.transactional().committed(&key);
        woken(&mut subscription, "a committed end").await;
        assert!(matches!(claim(store, &key, &request()).await, ClaimOutcome::Done(_)));
    }
}

pub(super) async fn a_claim_inside_is_seen_once_it_is_committed(subject: &Subject) {
    for is_committed in [true, false] {
        let key = subject.key(is_committed);
        let mut open = Open::begin(subject).await;
        let token = open.claim(&key).await;
        assert!(matches!(open.state(&key).await, Some(State::Running { .. })));
        open.complete(&key, &token, &ok(b"1")).await;
        open.keep().await;
        assert_eq!(open.state(&key).await, Some(State::Done(ok(b"1"))));
        assert_eq!(subject.record(&key).await, None, "seen before the commit");
        if is_committed {
            open.commit().await;
            assert_eq!(subject.state(&key).await, Some(State::Done(ok(b"1"))));
        } else {
            open.roll_back().await;
            assert_eq!(subject.record(&key).await, None);
            assert_eq!(subject.take(subject.b(), &key, &request()).await.attempt, 1);
        }
    }
}

pub(super) async fn an_undone_claim_leaves_nothing(subject: &Subject) {
    let (key, written) = (subject.key("k"), subject.key("written"));
    let mut open = Open::begin(subject).await;
    open.write(&written).await;
    for is_completed in [false, true] {
        let token = open.claim(&key).await;
        if is_completed {
            open.complete(&key, &token, &ok(b"1")).await;
        }
        open.undo().await;
        assert_eq!(open.state(&key).await, None);
    }
    open.commit().await;
    assert_eq!(subject.record(&key).await, None);
    assert!(subject.record(&written).await.is_some(), "what was done before the savepoint stays");
}

/// Its caller was dropped, and whoever has the transaction commits it.
pub(super) async fn a_claim_without_an_end_is_not_committed(subject: &Subject) {
    let (key, written) = (subject.key("k"), subject.key("written"));
    let mut open = Open::begin(subject).await;
    open.write(&written).await;
    open.claim(&key).await;
    assert!(!open.transaction.commit().await, "the database says that it has committed half a call");
    assert_eq!(subject.record(&key).await, None);
    assert_eq!(subject.record(&written).await, None);
}

/// Asks until the store answers: it may say that it is busy while a transaction is open.
async fn answered<T, F: Future<Output = StoreResult<T>>>(mut ask: impl FnMut() -> F) -> T {
    loop {
        if let Ok(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
