//! Worker processes that share a load, and are started again when they end.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt as _, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::program::{Summary, summary, transfers};

/// The number of transfers that a worker is started for.
const PART: u64 = 100;
/// A run goes on for longer where the machine is so busy that it has settled fewer transfers in its time.
const LEAST: i64 = 1_000;

/// The results of a run.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Settled transfers, and those of them that were made.
    pub(crate) transfers: i64,
    pub(crate) made: i64,
    pub(crate) kills: u64,
    /// Workers that did not reach the database.
    pub(crate) unreachable: u64,
    /// The sums of the summaries of those workers that were not killed.
    pub(crate) told: BTreeMap<&'static str, i64>,
}

/// All work on the same part of the load, or on neighbouring ones: the next part begins when a worker has done one.
pub(crate) struct Workers {
    url: String,
    seed: u64,
    parts_done: u64,
    under_way: Vec<(u64, Child)>,
    pub(crate) counts: Counts,
}

impl Workers {
    pub(crate) fn start(url: &str, seed: u64, count: usize) -> Self {
        let mut workers =
            Self { url: url.to_owned(), seed, parts_done: 0, under_way: Vec::new(), counts: Counts::default() };
        for _ in 0..count {
            workers.spawn();
        }
        workers
    }

    fn spawn(&mut self) {
        let first = (1 + self.parts_done * PART).to_string();
        let (part, seed) = (PART.to_string(), self.seed.to_string());
        let arguments = ["--work", "--json", "--seed", &seed, "--first", &first, "--transfers", &part];
        let mut command = Command::from(transfers(&self.url, &arguments));
        self.under_way.push((self.parts_done, command.kill_on_drop(true).spawn().unwrap()));
    }

    /// Works until the time is up and what was begun is done; kills one after each of these pauses, in ms, meanwhile.
    pub(crate) async fn work(mut self, time: Duration, kill_ms: Option<(u64, u64)>, random: &mut StdRng) -> Counts {
        let begin = Instant::now();
        let pause = |random: &mut StdRng| {
            let (least, most) = kill_ms?;
            Some(Instant::now() + Duration::from_millis(random.random_range(least..=most)))
        };
        let mut next_kill = pause(random);
        while !self.under_way.is_empty() {
            assert!(begin.elapsed() < time * 10, "no progress: {:?}", self.counts);
            let is_over = begin.elapsed() >= time && self.counts.transfers >= LEAST;
            if !is_over && next_kill.is_some_and(|next_kill| Instant::now() >= next_kill) {
                let victim = random.random_range(0..self.under_way.len());
                self.under_way[victim].1.start_kill().unwrap();
                next_kill = pause(random);
            }
            self.reap(is_over).await;
            sleep(Duration::from_millis(2)).await;
        }
        self.counts
    }

    /// Takes leave of those that have ended, and starts others in their place as long as there is something to do.
    async fn reap(&mut self, is_over: bool) {
        for index in (0..self.under_way.len()).rev() {
            if self.under_way[index].1.try_wait().unwrap().is_none() {
                continue;
            }
            let (part, worker) = self.under_way.swap_remove(index);
            let output = worker.wait_with_output().await.unwrap();
            if output.status.signal() == Some(9) {
                self.counts.kills += 1;
            } else if output.status.code() == Some(2) {
                self.counts.unreachable += 1;
            } else {
                self.done(part, &summary(&output, 0));
            }
            // The last part has to be done by somebody.
            if !is_over || (part == self.parts_done && self.under_way.is_empty()) {
                self.spawn();
            }
        }
    }

    fn done(&mut self, part: u64, summary: &Summary) {
        assert_eq!(summary.get("transfers"), i64::try_from(PART).unwrap(), "{summary:?}");
        let told = ["deliveries", "executions", "replays", "mismatches", "gave_up", "retries"];
        for field in told.into_iter().chain(["commits_in_doubt", "commits_applied"]) {
            *self.counts.told.entry(field).or_default() += summary.get(field);
        }
        if part == self.parts_done {
            self.parts_done += 1;
            self.counts.transfers += summary.get("transfers");
            self.counts.made += summary.get("made");
        }
    }
}
