//! The conformance suite can fail: stores with one fault each, all of them found.
//!
//! Each mutant is the memory store with one promise broken, and has to fail the rule that is meant for it.

use idempotent_runtime::{
    store::memory::MemoryStore,
    testing::{
        ManualClock,
        conformance::{Fixture, RULES, Rule},
    },
};

use idempotent_tests::mutants::{Bug, Mutant};

async fn objects(rule: &'static Rule, bug: Option<Bug>) -> bool {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(&clock).build();
    let first = Mutant::new(store, bug);
    let second = first.other_handle(MemoryStore::builder().clock(&clock).build());
    tokio::spawn(rule.check(Fixture::new(first, second).clock(clock))).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bug_no_rule_objects() {
    for rule in RULES {
        assert!(!objects(rule, None).await, "{rule:?}");
    }
}

macro_rules! caught {
    ($($test:ident: $bug:ident by $rule:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            assert!(objects(Rule::named(stringify!($rule)).expect("a rule"), Some(Bug::$bug)).await);
        }
    )*};
}

caught! {
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
