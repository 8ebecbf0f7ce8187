//! Hands the orders to workers, kills workers, and hands over again what they did not answer.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use indicatif::ProgressBar;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Args, Failure,
    chronicle::Chronicle,
    kills::Kills,
    order::{Confirmation, Order},
    process::{Heard, Process},
    worker::Said,
};

/// The number of orders that a worker has at a time.
const AT_ONCE: usize = 8;
/// The number of orders that may be begun beyond those placed, and beyond the next kill.
const AHEAD: u64 = 40;
/// The time after which a run without progress is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The time after which a worker that ended by itself is started again, and how often in a row.
const PAUSE: Duration = Duration::from_millis(200);
const RESTARTS: u32 = 20;

/// The answers, and how they came about.
#[derive(Default, Serialize)]
pub(crate) struct Run {
    /// Orders that were handed over, and orders that were handed over twice at the same time.
    pub(crate) orders: u64,
    pub(crate) double_clicks: u64,
    pub(crate) placed: u64,
    /// Answers from the record.
    pub(crate) replays: u64,
    /// Answers of "not now".
    pub(crate) retries: u64,
    pub(crate) kills: u64,
    /// Orders that were under way in a worker that was killed, counted for each kill.
    pub(crate) orders_hit: u64,
    /// Orders that were placed by a later attempt than the first, and the number of the latest.
    pub(crate) resumed: u64,
    pub(crate) latest_attempt: u32,
    /// Orders that were answered differently.
    pub(crate) changed_answers: u64,
    /// Orders that can never be placed, or were not in time.
    pub(crate) stuck: u64,
    #[serde(skip)]
    pub(crate) confirmations: BTreeMap<u64, Confirmation>,
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
}

pub(crate) struct Supervisor<'a> {
    args: &'a Args,
    outside: String,
    chronicle: Arc<Chronicle>,
    bar: ProgressBar,
    random: StdRng,
    kills: Kills,
    workers: Vec<Process>,
    voices: UnboundedSender<Heard>,
    heard: UnboundedReceiver<Heard>,
    /// The next order that was not handed over yet.
    fresh: u64,
    /// Orders that are to be handed over again, and when.
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    stuck: BTreeSet<u64>,
    progress: Instant,
    /// Workers that ended by themselves since the last one was ready.
    restarts: u32,
    run: Run,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(args: &'a Args, outside: String, chronicle: Arc<Chronicle>, bar: ProgressBar) -> Self {
        let random = StdRng::seed_from_u64(args.seed);
        let kills = Kills::new(args.crash, args.orders, StdRng::seed_from_u64(!args.seed));
        let (voices, heard) = unbounded_channel();
        let (workers, later, stuck, run) = (Vec::new(), BinaryHeap::new(), BTreeSet::new(), Run::default());
        let progress = Instant::now();
        Self {
            args,
            outside,
            chronicle,
            bar,
            random,
            kills,
            workers,
            voices,
            heard,
            fresh: 1,
            later,
            stuck,
            progress,
            restarts: 0,
            run,
        }
    }

    /// Works until each order is answered, or there is no progress.
    pub(crate) async fn work(mut self) -> Result<Run, Failure> {
        for place in 0..usize::from(self.args.workers) {
            let worker = self.start(place)?;
            self.workers.push(worker);
        }
        while self.fresh <= self.args.orders || !self.later.is_empty() || self.is_under_way() {
            self.hand_out().await;
            let kill = self.kills.next(self.run.placed);
            let later = self.later.peek().map(|Reverse((at, _))| *at).filter(|&at| at > Instant::now());
            let give_up = self.progress + PATIENCE;
            tokio::select! {
                Some((place, said)) = self.heard.recv() => match said {
                    Some(said) => self.listen(place, said),
                    None => self.restart(place).await?,
                },
                () = sleep_until(kill.unwrap_or(give_up)), if kill.is_some() => self.kill(),
                () = sleep_until(later.unwrap_or(give_up)), if later.is_some() => {}
                () = sleep_until(give_up) => break,
            }
        }
        self.run.stuck = self.args.orders - self.run.placed;
        Ok(self.run)
    }

    fn start(&self, place: usize) -> Result<Process, Failure> {
        Process::start(place, self.args, &self.outside, self.voices.clone())
    }

    fn is_under_way(&self) -> bool {
        self.workers.iter().any(|worker| !worker.under_way.is_empty())
    }

    fn note(&self, number: u64, text: &str) {
        self.chronicle.note(&Order::new(self.args.seed, number).id, text);
    }

    /// Hands over what is due, as long as a worker has room for it.
    async fn hand_out(&mut self) {
        while self.workers.iter().any(|worker| worker.under_way.len() < AT_ONCE) {
            let Some(number) = self.next() else { return };
            // The worker with the least to do, but not the one that has the order already: two clicks meet two processes.
            let load = |worker: &Process| (worker.under_way.contains(&number), worker.under_way.len());
            let free = self.workers.iter_mut().enumerate().min_by_key(|(_, worker)| load(worker));
            let Some((place, worker)) = free else { return };
            worker.hand(number).await;
            self.note(number, &format!("worker {} is asked", place + 1));
        }
    }

    /// The next order that is due.
    fn next(&mut self) -> Option<u64> {
        if self.later.peek().is_some_and(|Reverse((at, _))| *at <= Instant::now()) {
            return self.later.pop().map(|Reverse((_, number))| number);
        }
        // Orders wait for a kill that is late. Where none is under way, one is begun: there is nothing to hit.
        let most = self.run.placed.min(self.kills.due_at()).saturating_add(AHEAD);
        let number = self.fresh;
        if number > self.args.orders || (number > most && self.is_under_way()) {
            return None;
        }
        self.fresh += 1;
        self.run.orders += 1;
        // A customer in five clicks twice.
        if self.random.random_range(0..5) == 0 {
            self.run.double_clicks += 1;
            self.later.push(Reverse((Instant::now(), number)));
        }
        Some(number)
    }

    fn listen(&mut self, place: usize, said: Said) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        match said {
            Said::Ready => {
                worker.is_ready = true;
                self.restarts = 0;
            }
            Said::Placed { number, confirmation, ran } => {
                worker.answered(number);
                self.progress = Instant::now();
                self.run.replays += u64::from(!ran);
                self.note(number, &format!("worker {} answers: placed in attempt {}", place + 1, confirmation.attempt));
                match self.run.confirmations.entry(number) {
                    Entry::Occupied(first) => self.run.changed_answers += u64::from(*first.get() != confirmation),
                    Entry::Vacant(first) => {
                        self.run.placed += 1;
                        self.run.resumed += u64::from(confirmation.attempt > 1);
                        self.run.latest_attempt = self.run.latest_attempt.max(confirmation.attempt);
                        first.insert(confirmation);
                        self.bar.inc(1);
                    }
                }
            }
            Said::Later { number, after_ms, why } => {
                worker.answered(number);
                self.run.retries += 1;
                self.later.push(Reverse((Instant::now() + Duration::from_millis(after_ms), number)));
                self.note(number, &format!("worker {} answers: {why}", place + 1));
            }
            Said::Failed { number, why } => {
                worker.answered(number);
                self.note(number, &format!("worker {} answers: {why}", place + 1));
                if self.stuck.insert(number) {
                    let id = Order::new(self.args.seed, number).id;
                    self.run.first_error.get_or_insert_with(|| format!("order {id}: {why}"));
                }
            }
        }
    }

    /// Kills a worker that has something to do; now and then one that is just starting.
    fn kill(&mut self) {
        let is_any = self.random.random_range(0..8) == 0;
        let may_be_hit =
            |worker: &Process| !worker.is_killed && !worker.under_way.is_empty() && (worker.is_ready || is_any);
        let victims: Vec<usize> =
            (0..self.workers.len()).filter(|&place| self.workers.get(place).is_some_and(may_be_hit)).collect();
        if victims.is_empty() {
            return self.kills.put_off();
        }
        let place = victims.get(self.kills.victim(victims.len())).copied().unwrap_or_default();
        if let Some(worker) = self.workers.get_mut(place) {
            worker.kill();
            self.kills.done();
            self.run.kills += 1;
        }
    }

    /// Starts a worker in the place of one that has ended, and has its orders handed over again.
    async fn restart(&mut self, place: usize) -> Result<(), Failure> {
        let worker = self.start(place)?;
        let Some(place_of) = self.workers.get_mut(place) else { return Ok(()) };
        let ended = std::mem::replace(place_of, worker);
        let text = if ended.is_killed {
            self.run.orders_hit += ended.under_way.len() as u64;
            format!("worker {} is killed", place + 1)
        } else {
            self.restarts += 1;
            if self.restarts > RESTARTS {
                return Err("the workers do not start".into());
            }
            sleep(PAUSE).await;
            format!("worker {} has ended", place + 1)
        };
        for number in ended.under_way {
            self.note(number, &text);
            self.later.push(Reverse((Instant::now(), number)));
        }
        Ok(())
    }
}
