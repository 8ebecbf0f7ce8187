//! The conformance suite can fail: stores with one fault each, all of them found.
//!
//! Each mutant is the memory store with one promise broken, or the SQLite store for what it offers beyond `Store`, and has to
//! fail the rule that is meant for it.

use std::sync::Arc;

use idempotent_runtime::{
    store::memory::MemoryStore,
    testing::{
        ManualClock,
        conformance::{Fixture, LETTER_RULES, NO_LETTER_RULES, NO_TRANSACTION_RULES, RULES, Rule, TRANSACTION_RULES},
    },
};

use idempotent_tests::{
    backend::Backend,
    mutants::{BeyondBug, BeyondMutant, Bug, Mutant},
};

async fn objects(rule: &'static Rule, bug: Option<Bug>) -> bool {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(&clock).build();
    let first = Mutant::new(store, bug);
    let second = first.other_handle(MemoryStore::builder().clock(&clock).build());
    tokio::spawn(rule.check(Fixture::new(first, second).clock(clock))).await.is_err()
}

async fn objects_beyond(rule: &'static Rule, bug: Option<BeyondBug>) -> bool {
    let backend = Arc::new(Backend::sqlite().await);
    let Backend::Sqlite { file } = &*backend else { unreachable!() };
    let first = BeyondMutant::new(&backend, bug).await;
    let second = first.other_handle(&backend).await;
    let fixture = Fixture::new(first, second).tick(backend.tick()).transactions(file.pool(|options| options));
    let moved = Arc::clone(&backend);
    let fixture = fixture.moved(move |by| {
        let backend = Arc::clone(&moved);
        Box::pin(async move { backend.advance(by).await })
    });
    tokio::spawn(rule.check(fixture)).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bug_no_rule_objects() {
    for rule in RULES.iter().chain(NO_TRANSACTION_RULES).chain(NO_LETTER_RULES) {
        assert!(!objects(rule, None).await, "{rule:?}");
    }
    for rule in TRANSACTION_RULES.iter().chain(LETTER_RULES) {
        assert!(!objects_beyond(rule, None).await, "{rule:?}");
    }
}

/// A store that offers more than its suite names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_what_is_not_named() {
    for rule in NO_TRANSACTION_RULES.iter().chain(NO_LETTER_RULES) {
        assert!(objects_beyond(rule, None).await, "{rule:?}");
    }
}

macro_rules! caught {
    ($($test:ident: $bug:ident by $rule:ident)*) => { caught!(objects, Bug: $($test: $bug by $rule)*); };
    ($objects:ident, $bugs:ident: $($test:ident: $bug:ident by $rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            assert!($objects(Rule::named(stringify!($rule)).expect("a rule"), Some($bugs::$bug)).await);
        }
    )*};
}

caught! {
    resolves_the_living: ResolvesTheLiving by a_run_that_is_alive_is_not_resolved
    resolves_unseen: ResolvesUnseen by only_what_was_seen_is_resolved
    resolved_is_the_owners: ResolvedIsTheOwners by an_operator_says_what_happened
    resolve_forgets_the_word: ResolveForgetsTheWord by an_operator_says_what_happened
    resolve_drops_arguments: ResolveDropsArguments by an_operator_says_what_happened
    resolve_repeat_is_changed: ResolveRepeatIsChanged by a_repeated_resolution_changes_nothing
    resolve_is_silent: ResolveIsSilent by every_ending_wakes
    resolved_kept_too_long: ResolvedKeptTooLong by a_resolved_record_is_kept_for_its_time
    reopened_counts_on: ReopenedCountsOn by what_did_not_happen_is_run_again
    takeover_keeps_context: TakeoverKeepsContext by a_context_is_kept_like_arguments
    contexts_are_cut: ContextsAreCut by a_context_is_kept_like_arguments
    mismatch_unchecked_when_running: MismatchUncheckedWhenRunning by another_fingerprint_is_a_mismatch_in_every_state
    mismatch_unchecked_when_lapsed: MismatchUncheckedWhenLapsed by another_fingerprint_is_a_mismatch_in_every_state
    mismatch_unchecked_when_done: MismatchUncheckedWhenDone by another_fingerprint_is_a_mismatch_in_every_state
    mismatch_by_the_first_bytes: MismatchByTheFirstBytes by every_bit_of_the_fingerprint_counts
    repeated_claim_is_a_stranger: RepeatedClaimIsAStranger by same_nonce_is_the_same_claim
    repeated_claim_is_a_new_attempt: RepeatedClaimIsANewAttempt by same_nonce_is_the_same_claim
    suspended_claim_is_granted_again: SuspendedClaimIsGrantedAgain by a_suspended_claim_is_not_granted_again
    takes_over_anyway: TakesOverAnyway by takeover_is_refused_where_not_allowed
    never_takes_over: NeverTakesOver by abandoned_and_lapsed_are_taken_over
    takes_over_held_keys: TakesOverHeldKeys by held_keys_are_not_taken_over
    attempts_uncounted: AttemptsUncounted by abandoned_and_lapsed_are_taken_over
    attempts_never_reset: AttemptsNeverReset by released_forgotten_and_expired_keys_start_anew
    retry_after_zero: RetryAfterZero by running_key_is_in_flight
    checks_then_acts: ChecksThenActs by one_of_many_claims
    lease_ends_early: LeaseEndsEarly by lease_ends_when_it_says
    lease_ends_late: LeaseEndsLate by lease_ends_when_it_says
    running_record_has_no_ttl: RunningRecordHasNoTtl by running_record_is_kept_for_lease_and_ttl
    fence_is_constant: FenceIsConstant by fences_rise
    fence_restarts_when_forgotten: FenceRestartsWhenForgotten by fences_rise
    fence_is_made_anew: FenceIsMadeAnew by fences_rise
    fence_ignores_owner: FenceIgnoresOwner by strangers_change_nothing
    complete_ignores_owner: CompleteIgnoresOwner by late_owner_changes_nothing
    complete_repeat_is_lost: CompleteRepeatIsLost by complete_in_every_state
    complete_repeat_overwrites: CompleteRepeatOverwrites by complete_in_every_state
    complete_of_lapsed_is_lost: CompleteOfLapsedIsLost by complete_in_every_state
    complete_revives_abandoned: CompleteRevivesAbandoned by complete_in_every_state
    err_becomes_ok: ErrBecomesOk by results_come_back_byte_for_byte
    empty_is_unavailable: EmptyIsUnavailable by results_come_back_byte_for_byte
    lossy_text: LossyText by results_come_back_byte_for_byte
    long_results_are_cut: LongResultsAreCut by a_mebibyte_comes_back
    reason_is_lost: ReasonIsLost by results_come_back_byte_for_byte
    done_kept_too_short: DoneKeptTooShort by done_record_is_kept_for_its_ttl
    done_kept_too_long: DoneKeptTooLong by done_record_is_kept_for_its_ttl
    release_ignores_owner: ReleaseIgnoresOwner by late_owner_changes_nothing
    release_of_vacant_is_lost: ReleaseOfVacantIsLost by release_in_every_state
    release_abandons: ReleaseAbandons by release_in_every_state
    suspend_ignores_owner: SuspendIgnoresOwner by late_owner_changes_nothing
    suspend_repeat_is_taken: SuspendRepeatIsTaken by suspend_in_every_state
    suspend_releases: SuspendReleases by suspend_in_every_state
    suspended_kept_too_long: SuspendedKeptTooLong by suspended_record_is_kept_for_its_time
    suspended_is_abandoned: SuspendedIsAbandoned by suspended_key_is_run_at_its_time
    kept_from_now_on: KeptFromNowOn by suspended_key_is_run_at_its_time
    not_before_is_early: NotBeforeIsEarly by suspended_key_is_run_at_its_time
    failed_is_abandoned: FailedIsAbandoned by suspend_in_every_state
    failed_is_refused: FailedIsRefused by a_failed_key_may_always_be_claimed
    unstarted_counts: UnstartedCounts by what_was_never_started_is_as_it_was
    unstarted_fails: UnstartedFails by what_was_never_started_is_as_it_was
    ended_is_taken: EndedIsTaken by suspend_in_every_state
    own_end_is_anothers: OwnEndIsAnothers by suspend_in_every_state
    hold_binds_always: HoldBindsAlways by held_keys_are_taken_over_always
    past_is_forgotten: PastIsForgotten by a_claim_tells_what_was_before
    failed_looks_abandoned: FailedLooksAbandoned by a_claim_tells_what_was_before
    abandoned_just_now: AbandonedJustNow by a_claim_tells_what_was_before
    failures_are_not_counted: FailuresAreNotCounted by a_claim_tells_what_was_before
    generation_is_of_the_claim: GenerationIsOfTheClaim by a_generation_is_kept_by_takeovers_only
    release_forgets_steps: ReleaseForgetsSteps by a_key_with_steps_is_not_released
    exhaustion_forgets_steps: ExhaustionForgetsSteps by a_resolution_ends_the_journal_or_keeps_it
    steps_are_hidden: StepsAreHidden by steps_stay_through_takeovers
    steps_are_cut: StepsAreCut by steps_come_back_in_order
    steps_are_sorted: StepsAreSorted by steps_come_back_in_order
    steps_of_any_claim: StepsOfAnyClaim by steps_stay_through_takeovers
    steps_outlive_their_life: StepsOutliveTheirLife by steps_end_with_their_life
    later_step_counts: LaterStepCounts by a_step_of_an_earlier_attempt_counts
    append_does_not_renew: AppendDoesNotRenew by append_renews_the_lease
    append_ignores_owner: AppendIgnoresOwner by late_owner_changes_nothing
    renew_ignores_owner: RenewIgnoresOwner by strangers_change_nothing
    renew_does_nothing: RenewDoesNothing by renewed_lease_ends_when_it_says
    renew_has_no_ttl: RenewHasNoTtl by renewed_record_is_kept_for_lease_and_ttl
    renew_of_lapsed_is_lost: RenewOfLapsedIsLost by renew_in_every_state
    renew_only_prolongs: RenewOnlyProlongs by renewed_lease_ends_when_it_says
    forget_is_denied: ForgetIsDenied by forget_in_every_state
    forget_never_frees: ForgetNeverFrees by forget_in_every_state
    complete_is_silent: CompleteIsSilent by every_ending_wakes
    release_is_silent: ReleaseIsSilent by every_ending_wakes
    suspend_is_silent: SuspendIsSilent by every_ending_wakes
    forget_is_silent: ForgetIsSilent by every_ending_wakes
    other_handle_is_deaf: OtherHandleIsDeaf by every_subscriber_is_woken
    peek_is_stale: PeekIsStale by done_record_is_kept_for_its_ttl
    lapsed_is_shown_running: LapsedIsShownRunning by inspect_in_every_state
    lapsed_is_shown_abandoned: LapsedIsShownAbandoned by inspect_in_every_state
    abandoned_is_shown_lapsed: AbandonedIsShownLapsed by inspect_in_every_state
    lists_one_page: ListsOnePage by list_shows_every_live_record
    list_ignores_operation: ListIgnoresOperation by list_shows_every_live_record
    list_skips_abandoned: ListSkipsAbandoned by list_shows_every_live_record
    purge_ignores_limit: PurgeIgnoresLimit by purge_leaves_what_is_alive
    purges_the_lapsed: PurgesTheLapsed by purge_leaves_what_is_alive
    complete_drops_arguments: CompleteDropsArguments by arguments_are_kept_in_every_state
    abandon_drops_arguments: AbandonDropsArguments by arguments_are_kept_in_every_state
    renew_drops_arguments: RenewDropsArguments by arguments_are_kept_in_every_state
    mismatch_changes_arguments: MismatchChangesArguments by arguments_are_kept_in_every_state
    takeover_keeps_arguments: TakeoverKeepsArguments by arguments_are_those_of_the_claim_that_took_over
    arguments_are_made_up: ArgumentsAreMadeUp by arguments_are_absent_unless_given
    arguments_are_cut: ArgumentsAreCut by arguments_come_back_byte_for_byte
    arguments_outlive_their_record: ArgumentsOutliveTheirRecord by arguments_end_with_their_record
    keys_fold_case: KeysFoldCase by similar_keys_are_different_keys
    keys_are_cut: KeysAreCut by similar_keys_are_different_keys
    keys_run_together: KeysRunTogether by operations_are_separate
    handles_are_apart: HandlesAreApart by running_key_is_in_flight
    claims_at_once_are_made_up: ClaimsAtOnceAreMadeUp by random_steps_agree_with_the_model
    completions_at_once_are_made_up: CompletionsAtOnceAreMadeUp by random_steps_agree_with_the_model
}

caught! { objects_beyond, BeyondBug:
    end_ignores_owner: EndIgnoresOwner by nothing_is_committed_without_the_claim
    end_leaves_the_transaction: EndLeavesTheTransaction by nothing_is_committed_without_the_claim
    end_of_lapsed_is_refused: EndOfLapsedIsRefused by end_in_every_state
    end_of_the_done_is_repeated: EndOfTheDoneIsRepeated by end_in_every_state
    end_is_seen_at_once: EndIsSeenAtOnce by an_end_is_seen_once_it_is_committed
    rollback_loses_the_claim: RollbackLosesTheClaim by an_end_that_is_rolled_back_leaves_the_claim
    errors_are_committed_as_results: ErrorsAreCommittedAsResults by every_outcome_is_committed
    committed_is_kept_too_long: CommittedIsKeptTooLong by a_committed_record_is_kept_for_its_ttl
    journal_outlives_the_commit: JournalOutlivesTheCommit by the_journal_ends_with_the_commit
    owns_anything: OwnsAnything by owns_in_every_state
    owns_nothing_that_lapsed: OwnsNothingThatLapsed by owns_in_every_state
    owns_what_has_ended: OwnsWhatHasEnded by an_end_is_seen_once_it_is_committed
    claims_while_its_transaction_is_open: ClaimsWhileItsTransactionIsOpen by a_lapsed_run_is_taken_over_or_ended
    suspension_does_not_wait: SuspensionDoesNotWait by a_suspension_waits_for_the_end
    committed_is_silent: CommittedIsSilent by a_committed_end_wakes
    complete_inside_does_nothing: CompleteInsideDoesNothing by a_claim_inside_is_seen_once_it_is_committed
    undo_keeps: UndoKeeps by an_undone_claim_leaves_nothing
    keep_undoes: KeepUndoes by a_claim_inside_is_seen_once_it_is_committed
    half_a_call_is_committed: HalfACallIsCommitted by a_claim_without_an_end_is_not_committed
    bury_ignores_owner: BuryIgnoresOwner by a_late_owner_buries_nothing
    bury_leaves_the_run: BuryLeavesTheRun by bury_in_every_state
    bury_writes_no_letter: BuryWritesNoLetter by bury_in_every_state
    bury_of_lapsed_is_lost: BuryOfLapsedIsLost by bury_in_every_state
    bury_of_the_done_is_applied: BuryOfTheDoneIsApplied by bury_in_every_state
    exhausted_is_dead: ExhaustedIsDead by bury_in_every_state
    bury_repeat_is_lost: BuryRepeatIsLost by a_run_is_buried_once
    bury_repeat_writes_another: BuryRepeatWritesAnother by a_run_is_buried_once
    discarded_is_buried_anew: DiscardedIsBuriedAnew by a_run_is_buried_once
    bury_drops_the_journal: BuryDropsTheJournal by a_replay_keeps_the_journal
    bury_is_silent: BuryIsSilent by a_burial_wakes
    dead_is_kept_too_long: DeadIsKeptTooLong by a_dead_record_is_kept_for_its_ttl
    bury_leaves_it_replaying: BuryLeavesItReplaying by a_replay_that_is_buried_is_dead_again
    put_overwrites: PutOverwrites by a_letter_without_a_run_is_written_once
    put_ends_a_replay: PutEndsAReplay by a_letter_without_a_run_is_written_once
    one_letter_a_key: OneLetterAKey by there_is_one_letter_of_a_message
    payloads_are_text: PayloadsAreText by a_letter_comes_back_byte_for_byte
    empty_payload_is_none: EmptyPayloadIsNone by a_letter_comes_back_byte_for_byte
    errors_are_cut: ErrorsAreCut by a_letter_comes_back_byte_for_byte
    letters_are_reversed: LettersAreReversed by pages_are_in_order
    operations_ignore_their_start: OperationsIgnoreTheirStart by pages_are_in_order
    pages_ignore_their_start: PagesIgnoreTheirStart by pages_are_in_order
    pages_ignore_their_limit: PagesIgnoreTheirLimit by pages_are_in_order
    replaying_shows_the_dead: ReplayingShowsTheDead by pages_are_in_order
    replay_is_asked_twice: ReplayIsAskedTwice by one_of_many_has_it_replayed
    replay_takes_anothers_key: ReplayTakesAnothersKey by a_key_of_another_life_is_not_replayed
    replays_what_cannot_be_run: ReplaysWhatCannotBeRun by what_cannot_be_run_is_not_replayed
    replay_leaves_the_record: ReplayLeavesTheRecord by a_replayed_key_is_run_as_if_for_the_first_time
    replay_forgets_the_record: ReplayForgetsTheRecord by a_replay_keeps_the_journal
    replay_counts_on: ReplayCountsOn by a_replayed_key_is_run_as_if_for_the_first_time
    dead_again_does_nothing: DeadAgainDoesNothing by a_letter_made_dead_again_can_be_replayed
    dead_again_is_for_ever: DeadAgainIsForEver by a_letter_made_dead_again_can_be_replayed
    worked_off_removes_the_dead: WorkedOffRemovesTheDead by only_what_was_replayed_is_worked_off
    worked_off_forgets_the_record: WorkedOffForgetsTheRecord by only_what_was_replayed_is_worked_off
    discard_spares_the_replayed: DiscardSparesTheReplayed by a_discarded_letter_is_gone
    discard_ignores_the_operation: DiscardIgnoresTheOperation by a_discarded_letter_is_gone
    numbers_are_used_again: NumbersAreUsedAgain by a_discarded_letter_is_gone
    letters_end_with_their_record: LettersEndWithTheirRecord by a_letter_outlives_its_record
}
