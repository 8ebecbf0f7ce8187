//! Makes the built-in log, the same on every machine and in every release.

use crate::log::{Delivery, Fault, Kind};

const ORDERS: u64 = 2_000;
const SEED: u64 = 0x1de0_90fe_47ed_0001;
/// The distance between two orders on the time line by which deliveries are sorted.
const SPACING: u64 = 10;
/// Later than everything that is under way at the same time: some 700 deliveries.
const MUCH_LATER: u64 = 3_000;

/// The deliveries, in the order of their arrival.
pub(crate) fn deliveries() -> Vec<Delivery> {
    let mut random = SplitMix(SEED);
    let mut arrivals: Vec<(u64, Delivery)> = Vec::new();
    for number in 1..=ORDERS {
        let charge = Request::new(Kind::Charge, number, &mut random);
        let mut begins = number * SPACING;
        charge.story(begins, &mut random, &mut arrivals);
        if charge.card != DECLINED && random.below(100) < 15 {
            begins += MUCH_LATER + random.below(MUCH_LATER);
            charge.refunded(&mut random).story(begins, &mut random, &mut arrivals);
        }
    }
    arrivals.sort_by_key(|(time, _)| *time);
    let numbered = arrivals
        .into_iter()
        .zip(1..)
        .map(|((_, delivery), number)| Delivery { id: format!("d-{number:06}"), ..delivery });
    numbered.collect()
}

const DECLINED: &str = "tok_declined";
const CARDS: [&str; 4] = ["tok_visa", "tok_visa_debit", "tok_mastercard", "tok_amex"];

/// A client's request.
struct Request {
    kind: Kind,
    number: u64,
    amount_cents: u64,
    card: &'static str,
}

impl Request {
    fn new(kind: Kind, number: u64, random: &mut SplitMix) -> Self {
        let card = if random.below(100) < 5 { DECLINED } else { random.one_of(CARDS) };
        Self { kind, number, amount_cents: 100 + random.below(20_000), card }
    }

    /// The refund of a charge, or of a part of it.
    fn refunded(&self, random: &mut SplitMix) -> Self {
        let amount_cents = if random.below(2) == 0 { self.amount_cents } else { 1 + random.below(self.amount_cents) };
        Self { kind: Kind::Refund, amount_cents, ..*self }
    }

    /// All deliveries of the request. Faults come first: the last delivery is always a clean one.
    fn story(&self, begins: u64, random: &mut SplitMix, arrivals: &mut Vec<(u64, Delivery)>) {
        let mut arrive = |time, fault| arrivals.push((time, self.delivery(fault)));
        match random.below(100) {
            // A client that retries, although it was answered.
            30..55 => {
                for _ in 0..=random.below(3) {
                    arrive(begins + 100 + random.below(MUCH_LATER), None);
                }
            }
            // Duplicates at the same time.
            55..70 => {
                for _ in 0..=random.below(4) {
                    arrive(begins, None);
                }
            }
            70..76 => {
                arrive(begins, Some(Fault::CrashBeforeDebit));
                return arrive(begins + random.below(500), None);
            }
            76..82 => {
                arrive(begins, Some(Fault::CrashAfterDebit));
                return arrive(begins + random.below(500), None);
            }
            82..88 => {
                arrive(begins, Some(Fault::BankUnavailable));
                return arrive(begins + random.below(500), None);
            }
            88..95 => {
                arrive(begins, Some(Fault::GivesUp));
                return arrive(begins + random.below(500), None);
            }
            // A client that reuses its key for another amount, and then sends the right amount again. Not near the end of the log,
            // where too few deliveries are left in between.
            95.. if begins + MUCH_LATER < ORDERS * SPACING => {
                let wrong = Self { amount_cents: self.amount_cents + 1 + random.below(1_000), ..*self };
                arrive(begins + MUCH_LATER + 100, None);
                arrivals.push((begins + MUCH_LATER, wrong.delivery(None)));
            }
            // One clean delivery.
            _ => {}
        }
        arrivals.push((begins, self.delivery(None)));
    }

    fn delivery(&self, fault: Option<Fault>) -> Delivery {
        let prefix = match self.kind {
            Kind::Charge => "charge",
            Kind::Refund => "refund",
        };
        Delivery {
            id: String::new(),
            kind: self.kind,
            idempotency_key: format!("{prefix}-{:06}", self.number),
            order_id: format!("order-{:06}", self.number),
            amount_cents: self.amount_cents,
            currency: "EUR".to_owned(),
            card: self.card.to_owned(),
            fault,
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, near enough to uniform.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of(&mut self, choices: [&'static str; 4]) -> &'static str {
        let [first, second, third, fourth] = choices;
        match self.below(4) {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_log_never_changes() {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in crate::report::lines(&deliveries()).unwrap().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        assert_eq!((deliveries().len(), hash), (5_000, 0x50f7_865e_85c5_2f08), "the FNV-1a hash of the printed log");
    }

    #[test]
    fn there_are_dozens_of_everything() {
        let log = deliveries();
        for kind in [Kind::Charge, Kind::Refund] {
            let of_kind = || log.iter().filter(|delivery| delivery.kind == kind);
            let least = if kind == Kind::Charge { 60 } else { 12 };
            for fault in [Fault::CrashBeforeDebit, Fault::CrashAfterDebit, Fault::GivesUp, Fault::BankUnavailable] {
                let found = of_kind().filter(|delivery| delivery.fault == Some(fault)).count();
                assert!(found >= least, "{found} of {kind:?} {fault:?}");
            }
            let mut amounts: HashMap<&str, Vec<u64>> = HashMap::new();
            for delivery in of_kind() {
                amounts.entry(&delivery.idempotency_key).or_default().push(delivery.amount_cents);
            }
            let reused = amounts.values().filter(|of_key| of_key.iter().any(|cents| *cents != of_key[0])).count();
            assert!(reused >= least / 3, "{reused} keys of {kind:?} used again for another amount");
        }
        assert!(log.iter().filter(|delivery| delivery.card == DECLINED).count() >= 60);
    }

    #[test]
    fn each_last_delivery_is_clean() {
        let log = deliveries();
        let last: HashMap<&str, &Delivery> =
            log.iter().map(|delivery| (delivery.idempotency_key.as_str(), delivery)).collect();
        assert!(last.values().all(|delivery| delivery.fault.is_none()));
    }
}
