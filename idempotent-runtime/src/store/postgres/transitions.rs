//! The transitions of a record by its claimers. Each is one statement, which is sent again where it met a change.

use std::time::Duration;

use sqlx::{SqlStr, postgres::PgRow};
use tokio::time::{Instant, sleep};

use super::{
    PostgresShared,
    batches::{Claim, End},
    contended,
    executor::{Bound, User},
    fault::{is_lock_timeout, store_error, timed_out},
    parameters::{append, claim, complete, micros, owned, suspend},
    row::{self, Standing},
};
use crate::store::{
    Appended, ClaimOutcome, ClaimRequest, Outcome, RecordKey, Step, StoreResult, Suspension, Token, Transition, Why,
    batcher::Turn,
    sql::states::{self, RowState},
};

/// The number of tries of a step whose record changes between its two statements.
pub(super) const TRIES: usize = 8;

/// The number of times that a claim waits for the lock of a row, 50 ms each.
const LOCK_WAITS: u32 = 4;
/// The pause between two of these, without a connection.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The time after which to ask again for a key that another transaction has. It is a guess: transactions have no lease.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer to a statement of the owner's.
enum Done {
    /// It changed the record, and answered.
    Changed(PgRow),
    /// It changed nothing: this record stands, or none.
    Unchanged(Option<Standing>),
}

impl PostgresShared {
    pub(super) async fn claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        self.check_sessions().await?;
        let together = || Claim { key: key.clone(), request: request.clone() };
        let mut lane = match self.batches.claims.turn(self.deadline(), together).await {
            Turn::Answered(answer) => return answer,
            Turn::Alone(lane) => lane,
            Turn::Late => return Err(timed_out()),
        };
        let mut waits = 0;
        for _ in 0..TRIES {
            let bind = |query| claim(query, key, request, None);
            let answer = self.executor.try_row(User::Anybody, &self.statements.claim, bind).await?;
            // What follows are waits for others.
            if let Some(lane) = lane.take() {
                lane.pass().await;
            }
            let row = match answer {
                // Many claims of a key at once queue for its row. By a later look the first of them is committed, and
                // answers the others: among them this very claim, if it was sent twice.
                Err(error) if is_lock_timeout(&error) => {
                    waits += 1;
                    if waits == LOCK_WAITS {
                        return Ok(ClaimOutcome::InFlight { retry_after: RETRY_AFTER });
                    }
                    sleep(LOCK_PAUSE).await;
                    continue;
                }
                answer => answer.map_err(store_error)?,
            };
            if let Some(row) = row {
                return row::claim_outcome(&row, request);
            }
        }
        Err(contended())
    }

    /// The end of the wait for others: they have a connection, and then an answer, by then, or none.
    fn deadline(&self) -> Instant {
        Instant::now() + 2 * self.executor.timeout
    }

    /// The record that stands now.
    async fn standing(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Standing>> {
        let answer = self.executor.row(User::Owner, &self.statements.owner, |query| owned(query, key, token));
        answer.await?.as_ref().map(row::standing).transpose()
    }

    /// Runs a statement of the owner's.
    async fn change<'q>(
        &self,
        key: &RecordKey,
        token: &Token,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
    ) -> StoreResult<Done> {
        for _ in 0..TRIES {
            if let Some(row) = self.executor.row(User::Owner, statement, &bind).await? {
                return Ok(Done::Changed(row));
            }
            match self.standing(key, token).await? {
                // Our own claim, sent twice, was committed between the statement and this look: tries again.
                Some(Standing { is_ours: true, state: RowState::Running, .. }) => {}
                standing => return Ok(Done::Unchanged(standing)),
            }
        }
        Err(contended())
    }

    /// Runs a transition's statement. It is applied if it returns a row, or if the record already `shows` its effect.
    pub(super) async fn transition<'q>(
        &self,
        key: &RecordKey,
        token: &Token,
        statement: &SqlStr,
        bind: impl Fn(Bound<'q>) -> Bound<'q>,
        shows: impl FnOnce(Option<Standing>) -> bool,
    ) -> StoreResult<Transition> {
        let is_applied = match self.change(key, token, statement, bind).await? {
            Done::Changed(_) => true,
            Done::Unchanged(standing) => shows(standing),
        };
        Ok(if is_applied { Transition::Applied } else { Transition::Lost })
    }

    pub(super) async fn renew(
        &self,
        key: &RecordKey,
        token: &Token,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let bind = |query| owned(query, key, token).bind(micros(lease)).bind(micros(ttl));
        self.transition(key, token, &self.statements.renew, bind, |_| false).await
    }

    pub(super) async fn complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let together = || End { key: key.clone(), token: *token, outcome: outcome.clone(), ttl };
        let lane = match self.batches.ends.turn(self.deadline(), together).await {
            Turn::Answered(answer) => return answer.map(|()| Transition::Applied),
            Turn::Alone(lane) => lane,
            Turn::Late => return Err(timed_out()),
        };
        let bind = |query| complete(query, key, token, outcome, ttl);
        let shows = |standing: Option<Standing>| standing.is_some_and(|standing| standing.is_ours_as(RowState::Done));
        let answer = self.transition(key, token, &self.statements.complete, bind, shows).await;
        if let Some(lane) = lane {
            lane.pass().await;
        }
        answer
    }

    pub(super) async fn release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        let bind = |query| suspend(query, key, token, "released", Duration::ZERO, keep);
        let shows = |standing: Option<Standing>| standing.is_none_or(|standing| standing.is_ours_as(RowState::Failed));
        self.transition(key, token, &self.statements.suspend, bind, shows).await
    }

    pub(super) async fn suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let why = states::reason_to_suspend(why);
        let bind = |query| suspend(query, key, token, why, not_before, keep);
        Ok(match self.change(key, token, &self.statements.suspend, bind).await? {
            Done::Unchanged(None) => Suspension::Vacant,
            Done::Unchanged(Some(Standing { outcome: Some(outcome), is_ours, .. })) => {
                Suspension::ended(outcome, is_ours)
            }
            Done::Changed(_) | Done::Unchanged(Some(Standing { is_ours: true, .. })) => Suspension::Applied,
            Done::Unchanged(Some(_)) => Suspension::Taken,
        })
    }

    pub(super) async fn append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        let bind = |query| append(query, key, token, step, lease, ttl);
        for _ in 0..TRIES {
            match self.change(key, token, &self.statements.append, bind).await? {
                Done::Unchanged(_) => return Ok(Appended::Lost),
                Done::Changed(row) => match row::get(&row, 0)? {
                    Some(true) => return Ok(Appended::Applied),
                    Some(false) => return Ok(Appended::Recorded(row::value(&row, 1)?)),
                    None => {}
                },
            }
        }
        Err(contended())
    }

    pub(super) async fn steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        let answer = self.executor.rows(User::Owner, &self.statements.steps, |query| owned(query, key, token));
        let rows = answer.await?;
        if rows.is_empty() {
            return Ok(None);
        }
        rows.iter().filter_map(|row| row::step(row).transpose()).collect::<StoreResult<_>>().map(Some)
    }

    pub(super) async fn fence(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<u64>> {
        let bind = |query| owned(query, key, token);
        match self.change(key, token, &self.statements.fence, bind).await? {
            Done::Changed(row) => row::fence(&row, 0),
            Done::Unchanged(_) => Ok(None),
        }
    }
}
