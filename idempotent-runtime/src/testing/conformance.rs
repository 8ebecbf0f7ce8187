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
//! Random steps come from a seed that is printed; `CONFORMANCE_SEED=<seed>` repeats it.

mod arguments;
mod claims;
mod fixture;
mod journal;
mod lives;
mod model;
mod operators;
mod owners;
mod payloads;
mod races;
mod subject;
mod times;
mod wakes;

pub use self::fixture::Fixture;
use self::subject::Subject;
use crate::store::BoxFuture;

/// A rule, and how to check it.
pub struct Rule {
    name: &'static str,
    check: for<'a> fn(&'a Subject) -> BoxFuture<'a, ()>,
}

impl Rule {
    /// The rule with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name == name)
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

/// The one list of rules: hands it, behind the arguments, to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_rules {
    ($then:ident!($($arguments:tt)*)) => {
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
            operators::inspect_in_every_state
            operators::forget_in_every_state
            operators::list_shows_every_live_record
            operators::list_shows_what_exists_throughout
            operators::purge_leaves_what_is_alive
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
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_table {
    ([] $($group:ident::$rule:ident)*) => {
        /// All rules.
        pub const RULES: &[Rule] = &[$(Rule {
            name: stringify!($rule),
            check: |subject| Box::pin($group::$rule(subject)),
        }),*];
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$name:ident $fixture:expr] $($group:ident::$rule:ident)*) => {
        mod $name {
            use super::*;
            $(
                #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let rule = $crate::testing::conformance::Rule::named(stringify!($rule));
                    rule.expect("the rule is in the table").check(($fixture)().await).await;
                }
            )*
        }
    };
}

/// A test for each rule of [`Store`](crate::Store), in a module: see [`conformance`](crate::testing::conformance).
#[macro_export]
macro_rules! conformance_suite {
    (mod $name:ident, $fixture:expr) => {
        $crate::__conformance_rules! { __conformance_tests!($name $fixture) }
    };
}

__conformance_rules! { __conformance_table!() }
