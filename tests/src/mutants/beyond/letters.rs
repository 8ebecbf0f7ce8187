//! Dead letters that are not as they should be.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::{
    Fingerprint,
    store::{DeadLetter, DeadLetters, Outcome, RecordKey, Replay, State, Store as _, StoreResult, Token, Transition},
};

use super::{BeyondBug, BeyondMutant};

/// More than a rule writes.
const ALL: usize = 1000;

impl BeyondMutant {
    fn letters_inside(&self) -> &dyn DeadLetters {
        self.store.dead_letters().expect("SQLite keeps dead letters")
    }

    async fn letter(&self, operation: &str, id: i64) -> StoreResult<Option<DeadLetter>> {
        let letters = self.letters_inside().letters(operation, id - 1, 1).await?;
        Ok(letters.into_iter().find(|letter| letter.id == id))
    }

    async fn letters_of(&self, key: &RecordKey) -> StoreResult<Vec<DeadLetter>> {
        let mut letters = self.letters_inside().letters(key.operation(), 0, ALL).await?;
        letters.retain(|letter| letter.key == key.key());
        Ok(letters)
    }

    async fn mark(&self, state: &str, id: i64) {
        self.file.execute(&format!("UPDATE idempotent_records_dead SET state = '{state}' WHERE id = {id}")).await;
    }

    async fn forget_record_of(&self, letter: Option<&DeadLetter>) -> StoreResult<()> {
        if let Some(letter) = letter {
            let key = format!("{}|{}", letter.operation, letter.key).parse().expect("a record key");
            self.store.forget(&key).await?;
        }
        Ok(())
    }

    /// The letter as the mutant keeps it.
    fn spoilt(&self, letter: &DeadLetter) -> DeadLetter {
        let mut letter = letter.clone();
        match self.bug {
            Some(BeyondBug::PayloadsAreText) => {
                letter.payload =
                    letter.payload.map(|bytes| Bytes::from(String::from_utf8_lossy(&bytes).into_owned().into_bytes()));
            }
            Some(BeyondBug::EmptyPayloadIsNone) => letter.payload = letter.payload.filter(|bytes| !bytes.is_empty()),
            Some(BeyondBug::ErrorsAreCut) => {
                letter.error = letter.error.map(|error| error.chars().take(255).collect());
            }
            _ => {}
        }
        letter
    }

    async fn mutant_bury(
        &self,
        key: &RecordKey,
        token: &Token,
        letter: &DeadLetter,
        mut ttl: Duration,
    ) -> StoreResult<Transition> {
        let store = self.letters_inside();
        let is_repeated = !self.seen().buried.insert(token.nonce);
        let outcome = letter.outcome();
        match self.bug {
            Some(BeyondBug::BuryLeavesTheRun) => {
                store.put(letter).await?;
                return Ok(Transition::Applied);
            }
            Some(BeyondBug::BuryWritesNoLetter) => return self.store.complete(key, token, &outcome, ttl).await,
            Some(BeyondBug::BuryOfLapsedIsLost) if self.state(key).await? == Some(State::Lapsed) => {
                return Ok(Transition::Lost);
            }
            Some(BeyondBug::BuryRepeatIsLost) if is_repeated => return Ok(Transition::Lost),
            Some(BeyondBug::BuryRepeatWritesAnother) if is_repeated => {
                let mut other = letter.clone();
                other.fingerprint = Fingerprint::from_bytes([0x11; Fingerprint::LEN]);
                store.put(&other).await?;
            }
            Some(BeyondBug::DiscardedIsBuriedAnew) if is_repeated => store.put(letter).await?,
            Some(BeyondBug::BuryDropsTheJournal) => {
                let answer = self.store.complete(key, token, &outcome, ttl).await?;
                store.put(letter).await?;
                return Ok(answer);
            }
            Some(BeyondBug::ExhaustedIsDead) if outcome == Outcome::Exhausted => {
                let mut dead = letter.clone();
                dead.reason = "permanent".to_owned();
                let answer = store.bury(key, token, &dead, ttl).await?;
                self.file.execute("UPDATE idempotent_records_dead SET reason = 'exhausted'").await;
                return Ok(answer);
            }
            Some(BeyondBug::DeadIsKeptTooLong) => ttl += self.tick,
            _ => {}
        }
        let replayed = self.letters_of(key).await?.into_iter().find(|letter| letter.is_replaying);
        let answer = store.bury(key, token, &self.spoilt(letter), ttl).await?;
        let owner = self.seen().owners.get(key).copied();
        match (self.bug, answer, owner) {
            (Some(BeyondBug::BuryLeavesItReplaying), Transition::Applied, _) => {
                if let Some(replayed) = replayed {
                    self.mark("replaying", replayed.id).await;
                }
            }
            (Some(BeyondBug::BuryIgnoresOwner), Transition::Lost, Some(owner)) => {
                return store.bury(key, &owner, letter, ttl).await;
            }
            (Some(BeyondBug::BuryOfTheDoneIsApplied), Transition::Lost, Some(owner))
                if owner.nonce == token.nonce && matches!(self.state(key).await?, Some(State::Done(_))) =>
            {
                return Ok(Transition::Applied);
            }
            _ => {}
        }
        Ok(answer)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl DeadLetters for BeyondMutant {
    async fn bury(
        &self,
        key: &RecordKey,
        token: &Token,
        letter: &DeadLetter,
        ttl: Duration,
    ) -> StoreResult<Transition> {
        let answer = self.mutant_bury(key, token, letter, ttl).await;
        if self.is(BeyondBug::BuryIsSilent) { answer } else { self.wake(key, answer, &Transition::Applied) }
    }

    async fn put(&self, letter: &DeadLetter) -> StoreResult<()> {
        let store = self.letters_inside();
        let mut others = store.letters(&letter.operation, 0, ALL).await?;
        others.retain(|other| other.key == letter.key);
        let same = others.iter().find(|other| other.fingerprint == letter.fingerprint);
        match (self.bug, same) {
            (Some(BeyondBug::PutOverwrites), Some(same)) => drop(store.discard(&letter.operation, same.id).await?),
            (Some(BeyondBug::PutEndsAReplay), Some(same)) => store.dead_again(&letter.operation, same.id).await?,
            (Some(BeyondBug::OneLetterAKey), _) if !others.is_empty() => return Ok(()),
            _ => {}
        }
        store.put(&self.spoilt(letter)).await
    }

    async fn operations(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        let after = if self.is(BeyondBug::OperationsIgnoreTheirStart) { "" } else { after };
        self.letters_inside().operations(after, limit).await
    }

    async fn letters(&self, operation: &str, mut after: i64, mut limit: usize) -> StoreResult<Vec<DeadLetter>> {
        match self.bug {
            Some(BeyondBug::PagesIgnoreTheirStart) => after = 0,
            Some(BeyondBug::PagesIgnoreTheirLimit) => limit = ALL,
            _ => {}
        }
        let mut letters = self.letters_inside().letters(operation, after, limit).await?;
        if self.is(BeyondBug::LettersAreReversed) {
            letters.reverse();
        }
        Ok(letters)
    }

    async fn replaying(&self, operation: &str, after: i64, limit: usize) -> StoreResult<Vec<DeadLetter>> {
        if self.is(BeyondBug::ReplayingShowsTheDead) {
            return self.letters_inside().letters(operation, after, limit).await;
        }
        self.letters_inside().replaying(operation, after, limit).await
    }

    async fn replay(&self, operation: &str, id: i64) -> StoreResult<Replay> {
        let letter = self.letter(operation, id).await?;
        if self.is(BeyondBug::ReplayLeavesTheRecord) && letter.as_ref().is_some_and(|letter| !letter.is_replaying) {
            self.mark("replaying", id).await;
            return Ok(Replay::Asked);
        }
        if self.is(BeyondBug::DeadAgainIsForEver) && self.seen().made_dead_again.contains(&id) {
            return Ok(Replay::Taken);
        }
        let answer = self.letters_inside().replay(operation, id).await?;
        match (self.bug, answer, letter) {
            (Some(BeyondBug::ReplayIsAskedTwice), Replay::NotDead, Some(_)) => return Ok(Replay::Asked),
            (Some(BeyondBug::ReplayTakesAnothersKey), Replay::Taken, Some(letter)) if letter.payload.is_some() => {
                self.mark("replaying", id).await;
                return Ok(Replay::Asked);
            }
            (Some(BeyondBug::ReplaysWhatCannotBeRun), Replay::Taken, Some(letter)) if letter.payload.is_none() => {
                self.mark("replaying", id).await;
                return Ok(Replay::Asked);
            }
            (Some(BeyondBug::ReplayForgetsTheRecord), Replay::Asked, letter) => {
                self.forget_record_of(letter.as_ref()).await?;
            }
            (Some(BeyondBug::ReplayCountsOn), Replay::Asked, _) => {
                self.file.execute("UPDATE idempotent_records SET attempt = 3 WHERE attempt = 0").await;
            }
            _ => {}
        }
        Ok(answer)
    }

    async fn worked_off(&self, operation: &str, id: i64) -> StoreResult<bool> {
        match self.bug {
            Some(BeyondBug::WorkedOffRemovesTheDead) => self.letters_inside().discard(operation, id).await,
            Some(BeyondBug::WorkedOffForgetsTheRecord) => {
                let letter = self.letter(operation, id).await?;
                let answer = self.letters_inside().worked_off(operation, id).await?;
                self.forget_record_of(letter.as_ref().filter(|_| answer)).await?;
                Ok(answer)
            }
            _ => self.letters_inside().worked_off(operation, id).await,
        }
    }

    async fn dead_again(&self, operation: &str, id: i64) -> StoreResult<()> {
        self.seen().made_dead_again.insert(id);
        if self.is(BeyondBug::DeadAgainDoesNothing) {
            return Ok(());
        }
        self.letters_inside().dead_again(operation, id).await
    }

    async fn discard(&self, operation: &str, id: i64) -> StoreResult<bool> {
        match self.bug {
            Some(BeyondBug::DiscardSparesTheReplayed)
                if self.letter(operation, id).await?.is_some_and(|letter| letter.is_replaying) =>
            {
                Ok(false)
            }
            Some(BeyondBug::DiscardIgnoresTheOperation) => {
                self.file.execute(&format!("DELETE FROM idempotent_records_dead WHERE id = {id}")).await;
                Ok(true)
            }
            Some(BeyondBug::NumbersAreUsedAgain) => {
                let answer = self.letters_inside().discard(operation, id).await?;
                self.file.execute("DELETE FROM sqlite_sequence WHERE name = 'idempotent_records_dead'").await;
                Ok(answer)
            }
            _ => self.letters_inside().discard(operation, id).await,
        }
    }
}
