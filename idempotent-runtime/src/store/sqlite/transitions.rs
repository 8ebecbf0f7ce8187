//! The transitions of a record. Each is one statement, or one transaction of the store's own.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    SqliteStore, changing,
    database::Bound,
    inputs::{append, claim, complete, millis, named, now, owned, release, resolve, suspend},
    row::{self, SqliteRecord, SqliteState},
};
use crate::store::{
    Appended, ClaimOutcome, ClaimRequest, Outcome, RecordKey, ResolveRequest, Resolved, Step, StoreResult, Suspension,
    Token, Transition, Why,
    sql::states::{self, EndColumns},
};

/// The number of tries of a step whose record changes between its read and its write.
pub(super) const TRIES: usize = 8;

/// The pauses between two looks for an owner that may renew.
const LEAST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(160);

impl SqliteStore {
    pub(super) async fn look(&self, key: &RecordKey) -> StoreResult<Option<SqliteRecord>> {
        let rows = self.database.read(named(&self.database.statements.look, key)).await?;
        rows.first().map(row::decode).transpose()
    }

    /// Has a record's lease or pause end by a clock that went back, and says whether it did.
    async fn fall_behind(&self, key: &RecordKey) -> StoreResult<bool> {
        Ok(!self.database.write(named(&self.database.statements.behind, key)).await?.is_empty())
    }

    /// Waits until the owner of a run that has lapsed has renewed, or has had the time to.
    async fn give_way(&self, key: &RecordKey, lease: Duration) -> StoreResult<()> {
        let until = self.database.lock_was_free(lease).await?;
        let mut pause = LEAST_LOOK;
        while self.look(key).await?.is_some_and(|stored| stored.has_lapsed()) && Instant::now() < until {
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
        Ok(())
    }

    pub(super) async fn try_claim(&self, key: &RecordKey, request: &ClaimRequest) -> StoreResult<ClaimOutcome> {
        let mut has_waited = false;
        let mut has_given_way = false;
        for _ in 0..TRIES {
            // A hit ends here. Anything else that this read finds decides nothing: another process may change the
            // record before the write, and the write looks again, under the lock. If it then grants nothing, the next
            // round reads what came in between.
            let found = self.look(key).await?;
            // After a change this looks again; a fault is none of a record that can answer as it is.
            if found.as_ref().is_some_and(|stored| stored.is_behind) && self.fall_behind(key).await.unwrap_or_default()
            {
                continue;
            }
            let has_lapsed = found.as_ref().is_some_and(SqliteRecord::has_lapsed);
            if let Some(outcome) = found.and_then(|stored| stored.answer(request)) {
                return Ok(outcome);
            }
            let claim = claim(&self.database.statements, key, request, false, now());
            let rows = if has_lapsed && !has_given_way {
                // While another has the lock, an owner that is alive cannot renew: it is to come first. But once: others may
                // have the lock at each try, and the owner may be gone.
                let at_once = if has_waited { None } else { self.database.write_at_once(claim).await? };
                let Some(rows) = at_once else {
                    self.give_way(key, request.lease).await?;
                    has_given_way = true;
                    continue;
                };
                rows
            } else {
                let weight = request.arguments.as_ref().map_or(0, bytes::Bytes::len);
                self.database.write_with_others(&self.database.claims, claim, weight).await?
            };
            if let Some(row) = rows.first() {
                return row::granted(row, request);
            }
            has_waited = true;
        }
        Err(changing())
    }

    pub(super) async fn try_renew(
        &self,
        key: &RecordKey,
        token: &Token,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let query = owned(&self.database.statements.renew, key, token);
        let renewed = self.database.write(query.bind(millis(lease)).bind(millis(ttl))).await?;
        Ok(if renewed.is_empty() { Transition::Lost } else { Transition::Applied })
    }

    /// Runs statements of which one ends a run, and says whether one did.
    pub(super) async fn end(&self, key: &RecordKey, queries: Vec<Bound<'_>>) -> StoreResult<bool> {
        let ended = self.database.write_all(queries).await?.iter().any(|rows| !rows.is_empty());
        Ok(self.wake_if(ended, key))
    }

    /// Wakes those who wait for a run if it has ended, and says whether it has.
    fn wake_if(&self, ended: bool, key: &RecordKey) -> bool {
        if ended {
            self.database.listener.ended(key);
        }
        ended
    }

    pub(super) async fn try_complete(
        &self,
        key: &RecordKey,
        token: &Token,
        outcome: &Outcome,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let complete = complete(&self.database.statements, key, token, outcome, ttl);
        let weight = EndColumns::weight(outcome);
        let rows = self.database.write_with_others(&self.database.ends, complete, weight).await?;
        let is_applied = self.wake_if(!rows.is_empty(), key)
            || self
                .look(key)
                .await?
                .is_some_and(|stored| stored.nonce == token.nonce && matches!(stored.state, SqliteState::Done(_)));
        Ok(if is_applied { Transition::Applied } else { Transition::Lost })
    }

    pub(super) async fn try_release(&self, key: &RecordKey, token: &Token, keep: Duration) -> StoreResult<Transition> {
        let statements = &self.database.statements;
        // A run with a journal is not released, and so there for the second statement.
        let queries = vec![
            release(statements, key, token, false),
            suspend(statements, key, token, states::reason_to_suspend(Why::Failed), Duration::ZERO, keep),
        ];
        let is_applied = self.end(key, queries).await?
            || self
                .look(key)
                .await?
                .is_none_or(|stored| stored.nonce == token.nonce && matches!(stored.state, SqliteState::Failed));
        Ok(if is_applied { Transition::Applied } else { Transition::Lost })
    }

    pub(super) async fn try_suspend(
        &self,
        key: &RecordKey,
        token: &Token,
        why: Why,
        not_before: Duration,
        keep: Duration,
    ) -> StoreResult<Suspension> {
        let statements = &self.database.statements;
        for _ in 0..TRIES {
            let suspend = suspend(statements, key, token, states::reason_to_suspend(why), not_before, keep);
            let queries = match why {
                Why::Unstarted => vec![release(statements, key, token, true), suspend],
                Why::Abandoned | Why::Failed => vec![suspend],
            };
            if self.end(key, queries).await? {
                return Ok(Suspension::Applied);
            }
            let Some(found) = self.look(key).await? else { return Ok(Suspension::Vacant) };
            if let Some(answer) = found.suspension(token) {
                return Ok(answer);
            }
        }
        Err(changing())
    }

    pub(super) async fn try_resolve(&self, key: &RecordKey, request: &ResolveRequest) -> StoreResult<Resolved> {
        for _ in 0..TRIES {
            if self.end(key, vec![resolve(&self.database.statements, key, request)]).await? {
                return Ok(Resolved::Applied);
            }
            let Some(found) = self.look(key).await? else { return Ok(request.of_vacant()) };
            if let Some(answer) = request.answer(&found.into_record()) {
                return Ok(answer);
            }
        }
        Err(changing())
    }

    pub(super) async fn try_append(
        &self,
        key: &RecordKey,
        token: &Token,
        step: &Step,
        lease: Duration,
        ttl: Duration,
    ) -> StoreResult<Appended> {
        let answers = self.database.write_all(append(&self.database.statements, key, token, step, lease, ttl)).await?;
        let [owned, _, step] = &answers[..] else { return Err(changing()) };
        if owned.is_empty() {
            return Ok(Appended::Lost);
        }
        let Some(step) = step.first() else { return Err(changing()) };
        let (is_ours, value) = row::recorded(step)?;
        Ok(if is_ours { Appended::Applied } else { Appended::Recorded(value) })
    }

    pub(super) async fn try_steps(&self, key: &RecordKey, token: &Token) -> StoreResult<Option<Vec<Step>>> {
        let rows = self.database.read(owned(&self.database.statements.steps, key, token)).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        rows.iter().filter_map(|row| row::step(row).transpose()).collect::<StoreResult<_>>().map(Some)
    }
}
