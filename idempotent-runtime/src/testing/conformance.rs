//! The rules of [`Store`](crate::Store), each as a test that any store can be put through.
//!
//! A store's author describes it with a [`Fixture`] and writes
//!
//! ```
//! use idempotent_runtime::{
//!     conformance_suite,
//!     store::memory::MemoryStore,
//!     testing::{ManualClock, conformance::Fixture},
//! };
//!
//! conformance_suite!(mod memory, async || {
//!     let clock = ManualClock::new();
//!     let store = MemoryStore::builder().clock(&clock).build();
//!     Fixture::new(store.clone(), store).clock(clock)
//! });
//! # fn main() {}
//! ```
//!
//! which makes a `#[tokio::test]` of each rule (tokio with `macros` and `rt-multi-thread` has to be a dependency). A
//! rule works under an operation name of its own, with random bits in it, so that all can share one server.
//!
//! What a store may offer beyond [`Store`](crate::Store) has rules of its own. An author who offers it names it, as
//! `mod my_store: Transactional`, `mod my_store: DeadLetters` or `mod my_store: Transactional + DeadLetters`. A store that offers
//! what its suite does not name fails the rule [`offers_no_transactions`](Rule) or [`offers_no_dead_letters`](Rule).
//!
//! Random steps come from a seed that is printed; `CONFORMANCE_SEED=<seed>` repeats it.

mod arguments;
mod claims;
mod fixture;
mod journal;
mod letters;
mod lives;
mod model;
mod operators;
mod owners;
mod payloads;
mod races;
mod replays;
mod resolutions;
mod subject;
mod times;
mod transactions;
mod wakes;

pub use self::fixture::{BegunTransaction, Fixture, Transactions};
use self::subject::Subject;
use crate::store::BoxFuture;

/// A rule, and how to check it.
pub struct Rule {
    name: &'static str,
    check: for<'a> fn(&'a Subject) -> BoxFuture<'a, ()>,
}

impl Rule {
    /// The rule with this name, of whichever list.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        let lists = [RULES, NO_TRANSACTION_RULES, TRANSACTION_RULES, NO_LETTER_RULES, LETTER_RULES];
        lists.into_iter().flatten().find(|rule| rule.name == name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Checks it on the store behind the fixture.
    ///
    /// # Panics
    ///
    /// If the store breaks the rule.
    pub async fn check(&self, fixture: Fixture) {
        (self.check)(&Subject::new(self.name, fixture)).await;
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rule").field(&self.name).finish()
    }
}

/// The lists of rules: hands one, behind the arguments, to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_rules {
    (Store: $then:ident!($($arguments:tt)*)) => {
        $crate::$then! { [$($arguments)*]
            claims::vacant_key_is_claimed
            claims::running_key_is_in_flight
            claims::done_key_answers_its_result
            claims::another_fingerprint_is_a_mismatch_in_every_state
            claims::every_bit_of_the_fingerprint_counts
            claims::same_nonce_is_the_same_claim
            claims::a_suspended_claim_is_not_granted_again
            claims::abandoned_and_lapsed_are_taken_over
            claims::takeover_is_refused_where_not_allowed
            claims::held_keys_are_not_taken_over
            claims::released_forgotten_and_expired_keys_start_anew
            claims::fences_rise
            lives::a_claim_tells_what_was_before
            lives::a_failed_key_may_always_be_claimed
            lives::held_keys_are_taken_over_always
            lives::what_was_never_started_is_as_it_was
            lives::a_generation_is_kept_by_takeovers_only
            journal::steps_come_back_in_order
            journal::a_step_is_appended_once
            journal::a_step_of_an_earlier_attempt_counts
            journal::append_in_every_state
            journal::append_renews_the_lease
            journal::steps_stay_through_takeovers
            journal::a_key_with_steps_is_not_released
            journal::steps_end_with_their_life
            journal::steps_do_not_show_elsewhere
            owners::renew_in_every_state
            owners::complete_in_every_state
            owners::release_in_every_state
            owners::suspend_in_every_state
            owners::fence_in_every_state
            owners::strangers_change_nothing
            owners::late_owner_changes_nothing
            owners::late_owner_is_not_known_after_a_release_or_forget
            owners::nonces_that_differ_in_a_bit_are_strangers
            times::lease_ends_when_it_says
            times::renewed_lease_ends_when_it_says
            times::lapsed_lease_can_be_renewed
            times::running_record_is_kept_for_lease_and_ttl
            times::renewed_record_is_kept_for_lease_and_ttl
            times::taken_over_record_is_kept_for_lease_and_ttl
            times::done_record_is_kept_for_its_ttl
            times::suspended_record_is_kept_for_its_time
            times::suspended_key_is_run_at_its_time
            times::repeats_do_not_prolong
            times::a_century_is_not_too_long
            payloads::results_come_back_byte_for_byte
            payloads::a_mebibyte_comes_back
            payloads::hostile_keys_are_keys
            payloads::similar_keys_are_different_keys
            payloads::operations_are_separate
            arguments::arguments_are_kept_in_every_state
            arguments::arguments_are_absent_unless_given
            arguments::arguments_come_back_byte_for_byte
            arguments::arguments_are_those_of_the_claim_that_took_over
            arguments::arguments_end_with_their_record
            arguments::a_context_is_kept_like_arguments
            operators::inspect_in_every_state
            operators::forget_in_every_state
            operators::list_shows_every_live_record
            operators::list_shows_what_exists_throughout
            operators::purge_leaves_what_is_alive
            resolutions::an_operator_says_what_happened
            resolutions::what_did_not_happen_is_run_again
            resolutions::fences_rise_across_a_resolution
            resolutions::a_resolution_ends_the_journal_or_keeps_it
            resolutions::only_what_was_seen_is_resolved
            resolutions::a_run_that_is_alive_is_not_resolved
            resolutions::a_repeated_resolution_changes_nothing
            resolutions::a_resolved_record_is_kept_for_its_time
            resolutions::one_of_many_operators
            wakes::every_ending_wakes
            wakes::every_subscriber_is_woken
            wakes::an_ending_right_after_subscribing_wakes
            wakes::dropping_the_wait_loses_nothing
            races::one_of_many_claims
            races::one_of_many_takes_over
            races::one_claim_asked_many_times
            races::completion_or_takeover
            races::one_runs_at_a_time
            model::random_steps_agree_with_the_model
        }
    };
    (NoTransactional: $then:ident!($($arguments:tt)*)) => {
        $crate::$then! { [$($arguments)*]
            transactions::offers_no_transactions
        }
    };
    (Transactional: $then:ident!($($arguments:tt)*)) => {
        $crate::$then! { [$($arguments)*]
            transactions::an_end_is_seen_once_it_is_committed
            transactions::an_end_that_is_rolled_back_leaves_the_claim
            transactions::end_in_every_state
            transactions::nothing_is_committed_without_the_claim
            transactions::a_lapsed_run_is_taken_over_or_ended
            transactions::owns_in_every_state
            transactions::every_outcome_is_committed
            transactions::a_committed_record_is_kept_for_its_ttl
            transactions::the_journal_ends_with_the_commit
            transactions::a_suspension_waits_for_the_end
            transactions::a_committed_end_wakes
            transactions::a_claim_inside_is_seen_once_it_is_committed
            transactions::an_undone_claim_leaves_nothing
            transactions::a_claim_without_an_end_is_not_committed
        }
    };
    (NoDeadLetters: $then:ident!($($arguments:tt)*)) => {
        $crate::$then! { [$($arguments)*]
            letters::offers_no_dead_letters
        }
    };
    (DeadLetters: $then:ident!($($arguments:tt)*)) => {
        $crate::$then! { [$($arguments)*]
            letters::bury_in_every_state
            letters::a_letter_comes_back_byte_for_byte
            letters::a_run_is_buried_once
            letters::a_late_owner_buries_nothing
            letters::a_burial_wakes
            letters::a_dead_record_is_kept_for_its_ttl
            letters::there_is_one_letter_of_a_message
            letters::a_letter_without_a_run_is_written_once
            replays::a_replayed_key_is_run_as_if_for_the_first_time
            replays::a_replay_keeps_the_journal
            replays::one_of_many_has_it_replayed
            replays::a_key_of_another_life_is_not_replayed
            replays::what_cannot_be_run_is_not_replayed
            letters::a_letter_outlives_its_record
            replays::a_replay_that_is_buried_is_dead_again
            replays::a_letter_made_dead_again_can_be_replayed
            replays::only_what_was_replayed_is_worked_off
            letters::a_discarded_letter_is_gone
            letters::pages_are_in_order
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_table {
    ([$(#[$docs:meta])* $table:ident] $($group:ident::$rule:ident)*) => {
        $(#[$docs])*
        pub const $table: &[Rule] = &[$(Rule {
            name: stringify!($rule),
            check: |subject| Box::pin($group::$rule(subject)),
        }),*];
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$fixture:expr] $($group:ident::$rule:ident)*) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let rule = $crate::testing::conformance::Rule::named(stringify!($rule));
            rule.expect("the rule is in a table").check(($fixture)().await).await;
        }
    )*};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_module {
    ($name:ident $fixture:expr; $($list:ident)*) => {
        mod $name {
            use super::*;
            $($crate::__conformance_rules! { $list: __conformance_tests!($fixture) })*
        }
    };
}

/// A test for each rule of [`Store`](crate::Store), and of what the store offers beyond it, in a module: see
/// [`conformance`](crate::testing::conformance).
#[macro_export]
macro_rules! conformance_suite {
    (mod $name:ident, $fixture:expr) => {
        $crate::__conformance_module! { $name $fixture; Store NoTransactional NoDeadLetters }
    };
    (mod $name:ident: Transactional, $fixture:expr) => {
        $crate::__conformance_module! { $name $fixture; Store Transactional NoDeadLetters }
    };
    (mod $name:ident: DeadLetters, $fixture:expr) => {
        $crate::__conformance_module! { $name $fixture; Store NoTransactional DeadLetters }
    };
    (mod $name:ident: Transactional + DeadLetters, $fixture:expr) => {
        $crate::__conformance_module! { $name $fixture; Store Transactional DeadLetters }
    };
}

__conformance_rules! { Store: __conformance_table!(
    /// The rules of [`Store`](crate::Store).
    RULES
) }
__conformance_rules! { NoTransactional: __conformance_table!(
    /// The rule of stores that are no SQL database.
    NO_TRANSACTION_RULES
) }
__conformance_rules! { Transactional: __conformance_table!(
    /// The rules of [`Transactional`](crate::store::transactional::Transactional).
    TRANSACTION_RULES
) }
__conformance_rules! { NoDeadLetters: __conformance_table!(
    /// The rule of stores that leave dead letters to the broker.
    NO_LETTER_RULES
) }
__conformance_rules! { DeadLetters: __conformance_table!(
    /// The rules of [`DeadLetters`](crate::store::DeadLetters).
    LETTER_RULES
) }
