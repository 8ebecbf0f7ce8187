use futures_util::{FutureExt as _, future::join_all};
use tokio::{
    runtime::Builder,
    sync::Semaphore,
    task::yield_now,
    time::{sleep, timeout},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(1);

/// A number; those of one tens digit travel together, up to a sum of 100.
#[derive(Debug)]
struct Number(u32);

impl Request for Number {
    type Answer = u32;
    type Store = Sender;

    fn fits(&self, other: &Self) -> bool {
        self.0 / 10 == other.0 / 10
    }

    fn weight(&self) -> usize {
        self.0 as usize
    }

    async fn send(sender: Arc<Sender>, batch: Vec<Self>) -> Answers<Self> {
        lock(&sender.batches).push(batch.iter().map(|number| number.0).collect());
        assert!(!sender.panics, "as planned");
        if let Some(gate) = &sender.gate {
            gate.acquire().await.expect("an open gate").forget();
        }
        batch.iter().map(|number| (number.0 != 7).then_some(number.0 * 2)).collect()
    }
}

/// Answers with the double of each number but 7, and notes what left together.
#[derive(Default)]
struct Sender {
    batches: Mutex<Vec<Vec<u32>>>,
    panics: bool,
    /// Has a permit for each batch that is to be answered.
    gate: Option<Semaphore>,
}

fn batcher(sender: Sender) -> (Arc<Batcher<Number>>, Arc<Sender>) {
    let sender = Arc::new(sender);
    let limits = Limits { lanes: 1, requests: 3, weight: 100, patience: PATIENCE };
    (Batcher::new(limits, &Arc::downgrade(&sender)), sender)
}

fn later() -> Instant {
    Instant::now() + PATIENCE * 10
}

fn alone(batcher: &Arc<Batcher<Number>>) -> Lane<Number> {
    let turn = batcher.turn(later(), || unreachable!("a lane is free")).now_or_never();
    match turn.expect("no wait") {
        Turn::Alone(Some(lane)) => lane,
        _ => panic!("there are no others"),
    }
}

/// `Some` with the answer, `None` for one that goes alone.
fn ask(batcher: &Arc<Batcher<Number>>, number: u32) -> impl Future<Output = Option<u32>> + use<> {
    let batcher = Arc::clone(batcher);
    async move {
        match batcher.turn(later(), || Number(number)).await {
            Turn::Answered(answer) => Some(answer),
            Turn::Alone(_) => None,
            Turn::Late => panic!("late"),
        }
    }
}

/// Asks for these, while there is no lane, and then frees it.
async fn ask_together<const N: usize>(batcher: &Arc<Batcher<Number>>, numbers: [u32; N]) -> Vec<Option<u32>> {
    let lane = alone(batcher);
    let asked = tokio::spawn(join_all(numbers.map(|number| ask(batcher, number))));
    yield_now().await;
    drop(lane);
    asked.await.expect("no panic")
}

#[tokio::test]
async fn one_that_finds_a_free_lane_goes_alone_at_once() {
    let (batcher, sender) = batcher(Sender::default());
    for _ in 0..3 {
        alone(&batcher).pass().await;
    }
    assert!(lock(&sender.batches).is_empty());
}

#[tokio::test]
async fn those_that_wait_leave_together_in_their_order_as_far_as_they_fit() {
    let (batcher, sender) = batcher(Sender::default());
    let doubled = [2, 4, 6, 8, 30, 12].map(Some);
    assert_eq!(ask_together(&batcher, [1, 2, 3, 4, 15, 6]).await, doubled);
    assert_eq!(*lock(&sender.batches), [vec![1, 2, 3], vec![4, 6], vec![15]]);
    // The lane is free again.
    drop(alone(&batcher));
}

#[tokio::test]
async fn heavy_ones_leave_one_by_one() {
    let (batcher, sender) = batcher(Sender::default());
    ask_together(&batcher, [200, 201, 40, 41, 42]).await;
    assert_eq!(*lock(&sender.batches), [vec![200], vec![201], vec![40, 41], vec![42]]);
}

#[tokio::test]
async fn one_without_an_answer_goes_alone_and_the_others_have_theirs() {
    let (batcher, _sender) = batcher(Sender::default());
    assert_eq!(ask_together(&batcher, [6, 7, 8]).await, [Some(12), None, Some(16)]);
}

#[tokio::test]
async fn one_whose_caller_has_gone_does_not_leave() {
    let (batcher, sender) = batcher(Sender::default());
    let lane = alone(&batcher);
    assert!(ask(&batcher, 1).now_or_never().is_none());
    assert!(lock(&batcher.queue).waiting.is_empty());
    let asked = tokio::spawn(ask(&batcher, 2));
    yield_now().await;
    drop(lane);
    assert_eq!(asked.await.expect("no panic"), Some(4));
    assert_eq!(*lock(&sender.batches), [vec![2]]);
}

#[tokio::test]
async fn each_of_a_batch_that_panics_goes_alone_and_the_lane_is_free_again() {
    let (batcher, _sender) = batcher(Sender { panics: true, ..Sender::default() });
    assert_eq!(ask_together(&batcher, [1, 2]).await, [None, None]);
    yield_now().await;
    drop(alone(&batcher));
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_leave_together_if_the_lane_is_stuck() {
    let (batcher, sender) = batcher(Sender::default());
    let stuck = alone(&batcher);
    let asked = join_all([1, 2, 3, 4].map(|number| ask(&batcher, number))).await;
    assert_eq!(asked, [2, 4, 6, 8].map(Some));
    assert_eq!(*lock(&sender.batches), [vec![1, 2, 3], vec![4]]);
    assert_eq!(lock(&batcher.queue).free_lanes, 0);
    drop(stuck);
    assert_eq!(lock(&batcher.queue).free_lanes, 1);
}

#[tokio::test(start_paused = true)]
async fn one_waits_on_while_others_leave() {
    let (batcher, sender) = batcher(Sender { gate: Some(Semaphore::new(0)), ..Sender::default() });
    let gate = sender.gate.as_ref().expect("a gate");
    let lane = alone(&batcher);
    let asked = tokio::spawn(join_all([10, 20, 30].map(|number| ask(&batcher, number))));
    yield_now().await;
    drop(lane);
    for departed in 1..=3 {
        sleep(PATIENCE * 2 / 3).await;
        assert_eq!(lock(&sender.batches).len(), departed);
        gate.add_permits(1);
    }
    // The last one has waited for longer than its patience in all.
    assert_eq!(asked.await.expect("no panic"), [20, 40, 60].map(Some));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_the_deadline() {
    let (batcher, _sender) = batcher(Sender::default());
    let _stuck = alone(&batcher);
    let began = Instant::now();
    let turn = batcher.turn(began + PATIENCE / 2, || Number(1)).await;
    assert!(matches!(turn, Turn::Late));
    assert_eq!(began.elapsed(), PATIENCE / 2);
    assert!(lock(&batcher.queue).waiting.is_empty());
}

/// The runtime of the one that frees the lane is not driven any more; that of those who wait is.
#[test]
fn a_batch_is_carried_by_the_runtime_of_those_who_wait() {
    let (batcher, _sender) = batcher(Sender::default());
    let runtime = || Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (idle, driven) = (runtime(), runtime());
    let lane = alone(&batcher);
    let asked = driven.spawn(ask(&batcher, 1));
    driven.block_on(yield_now());
    idle.block_on(async { drop(lane) });
    let asked = driven.block_on(async { timeout(Duration::from_secs(10), asked).await });
    assert_eq!(asked.expect("an answer in time").expect("no panic"), Some(2));
    drop(alone(&batcher));
}

/// A lane is dropped outside of any runtime, and while the only one that waits has a runtime that has ended.
#[test]
fn a_lane_is_not_lost_without_a_runtime() {
    let (batcher, _sender) = batcher(Sender::default());
    let runtime = || Builder::new_current_thread().enable_time().build().expect("a runtime");
    let driven = runtime();
    let lane = alone(&batcher);
    let asked = driven.spawn(ask(&batcher, 1));
    driven.block_on(yield_now());
    drop(lane);
    assert_eq!(driven.block_on(asked).expect("no panic"), Some(2));
    let lane = alone(&batcher);
    let ended = runtime();
    drop(ended.spawn(ask(&batcher, 3)));
    ended.block_on(yield_now());
    drop(ended);
    drop(lane);
    drop(alone(&batcher));
}
