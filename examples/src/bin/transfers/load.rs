//! The load. The same seed gives the same load, on every machine and in every release.

use crate::transfer::Transfer;

/// The number of accounts: few enough for transfers to get in each other's way.
pub(crate) const ACCOUNTS: u64 = 20;
/// The opening balance of each account.
pub(crate) const OPENING_CENTS: i64 = 100_000;

/// A transfer, and the behaviour of its client.
pub(crate) struct Plan {
    pub(crate) transfer: Transfer,
    pub(crate) client: Client,
}

/// The behaviour of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Client {
    /// Asks once, and believes the answer.
    Content,
    /// Repeats the request this often, although it was answered.
    Repeats(u64),
    /// Sends the request this often at the same time.
    AsksAtOnce(u64),
    /// Leaves after this many milliseconds, and comes back later.
    Leaves { after_ms: u64 },
    /// Reuses the id for a larger amount.
    ReusesId { more_cents: i64 },
}

impl Plan {
    /// The transfer with a number.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut random = SplitMix(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number);
        let from = random.below(ACCOUNTS);
        let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        // Some accounts run dry. A few transfers ask for more than there is in the world.
        let most = if random.below(100) < 5 { OPENING_CENTS * 100 } else { OPENING_CENTS / 4 };
        let cents = most - random.cents_below(most);
        let transfer = Transfer { id: format!("{seed}-{number:06}"), from: account(from), to: account(to), cents };
        let client = match random.below(100) {
            0..55 => Client::Content,
            55..70 => Client::Repeats(1 + random.below(3)),
            70..85 => Client::AsksAtOnce(2 + random.below(2)),
            85..93 => Client::Leaves { after_ms: random.below(8) },
            _ => Client::ReusesId { more_cents: 1 + random.cents_below(100) },
        };
        Self { transfer, client }
    }
}

/// The account at an index. Account numbers start at one.
pub(crate) fn account(index: u64) -> i64 {
    1 + i64::try_from(index).unwrap_or(i64::MAX - 1)
}

/// The generator `SplitMix64`: the load must not change with a dependency.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn cents_below(&mut self, limit: i64) -> i64 {
        i64::try_from(self.next() >> 1).unwrap_or_default() % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_has_everything_in_it() {
        let plans: Vec<Plan> = (1..=1_000).map(|number| Plan::new(1, number)).collect();
        let count = |of: fn(&Plan) -> bool| plans.iter().filter(|&plan| of(plan)).count();
        assert!(count(|plan| matches!(plan.client, Client::Repeats(1..=3))) > 100);
        assert!(count(|plan| matches!(plan.client, Client::AsksAtOnce(2..=3))) > 100);
        assert!(count(|plan| matches!(plan.client, Client::Leaves { .. })) > 50);
        assert!(count(|plan| matches!(plan.client, Client::ReusesId { more_cents: 1.. })) > 40);
        assert!(count(|plan| plan.transfer.cents > OPENING_CENTS * 20) > 20, "that nobody can pay");
        for Plan { transfer, .. } in &plans {
            assert!(transfer.from != transfer.to && transfer.cents > 0);
            assert!([transfer.from, transfer.to].iter().all(|account| (1..=20).contains(account)));
        }
    }

    #[test]
    fn a_transfer_depends_on_seed_and_number_alone() {
        let of = |seed, number| Plan::new(seed, number).transfer;
        assert_eq!(of(7, 3).cents, of(7, 3).cents);
        assert_eq!((of(7, 3).id, of(8, 4).id), ("7-000003".to_owned(), "8-000004".to_owned()));
        let cents = |seed| (1..10).map(|number| of(seed, number).cents).collect::<Vec<_>>();
        assert_ne!(cents(7), cents(8));
    }
}
