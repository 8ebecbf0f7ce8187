//! Shows what an annotated function does: each option, seen from its caller.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use idempotent_runtime::{Error, Idempotency, OperationError, idempotent};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Counts the runs of bodies; its handle has their records.
#[derive(Clone)]
struct World {
    idempotency: Idempotency,
    runs: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        Self { idempotency: Idempotency::memory(), runs: Arc::default() }
    }

    fn run(&self) -> u32 {
        self.runs.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::Relaxed)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Failure {
    Declined(u32),
    Network(u32),
    Idempotency(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error.code().to_owned())
    }
}

impl Failure {
    fn is_final(&self) -> bool {
        matches!(self, Self::Declined(_))
    }
}

#[idempotent(key = order_id, store = world.idempotency, skip(world))]
async fn keyed(world: &World, order_id: &str, amount: u64) -> Result<(u32, u64), Error> {
    Ok((world.run(), amount))
}

#[tokio::test]
async fn a_repeat_gets_the_first_result() {
    let world = World::new();
    assert_eq!(keyed(&world, "a", 5).await.unwrap(), (1, 5));
    assert_eq!(keyed(&world, "a", 5).await.unwrap(), (1, 5));
    assert_eq!(keyed(&world, "b", 5).await.unwrap(), (2, 5));
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn the_same_key_with_other_arguments_is_refused() {
    let world = World::new();
    keyed(&world, "a", 5).await.unwrap();
    assert!(matches!(keyed(&world, "a", 6).await, Err(Error::Mismatch { .. })));
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn without_a_key_every_hashed_argument_is_part_of_it() {
    #[idempotent(store = world.idempotency, skip(world, note))]
    async fn hashed(world: &World, note: &str, (left, right): (u8, u8), r#type: Option<&str>) -> Result<u32, Error> {
        let _ = (note, left, right, r#type);
        Ok(world.run())
    }
    let world = World::new();
    assert_eq!(hashed(&world, "x", (1, 2), None).await.unwrap(), 1);
    assert_eq!(hashed(&world, "y", (1, 2), None).await.unwrap(), 1, "a skipped argument makes no difference");
    assert_eq!(hashed(&world, "x", (2, 1), None).await.unwrap(), 2);
    assert_eq!(hashed(&world, "x", (1, 2), Some("")).await.unwrap(), 3);
}

#[tokio::test]
async fn composite_keys_and_templates_do_not_collide() {
    #[idempotent(key = (a, b), store = world.idempotency, skip(world, a, b))]
    async fn tuple(world: &World, a: &str, b: &str) -> Result<u32, Error> {
        Ok(world.run())
    }
    #[idempotent(key = "{a}:{b}", store = world.idempotency, skip(world, a, b))]
    async fn template(world: &World, a: &str, b: &str) -> Result<u32, Error> {
        Ok(world.run())
    }
    let world = World::new();
    assert_eq!(tuple(&world, "a:b", "c").await.unwrap(), 1);
    assert_eq!(tuple(&world, "a", "b:c").await.unwrap(), 2);
    assert_eq!(template(&world, "a:b", "c").await.unwrap(), 3);
    assert_eq!(template(&world, "a", "b:c").await.unwrap(), 4);
    assert_eq!(template(&world, "a", "b:c").await.unwrap(), 4);
}

mod one {
    #[idempotent_runtime::idempotent(key = id, store = world.idempotency, skip(world))]
    pub(crate) async fn same(world: &super::World, id: u8) -> Result<u32, super::Error> {
        let _ = id;
        Ok(world.run())
    }
}

mod two {
    #[idempotent_runtime::idempotent(key = id, store = world.idempotency, skip(world))]
    pub(crate) async fn same(world: &super::World, id: u8) -> Result<u32, super::Error> {
        let _ = id;
        Ok(world.run())
    }
}

#[tokio::test]
async fn the_name_tells_operations_apart() {
    let world = World::new();
    assert_eq!(one::same(&world, 1).await.unwrap(), 1);
    assert_eq!(two::same(&world, 1).await.unwrap(), 2);
    let record = world.idempotency.inspect("attribute::two::same", &1).await.unwrap();
    assert!(record.is_some(), "the default is module::function");
}

#[tokio::test]
async fn errors_are_released_stored_or_as_a_function_says() {
    #[idempotent(key = id, store = world.idempotency, skip(world))]
    async fn released(world: &World, id: u8) -> Result<u32, Failure> {
        Err(Failure::Declined(world.run() + u32::from(id)))
    }
    #[idempotent(key = id, store = world.idempotency, skip(world), errors = keep)]
    async fn stored(world: &World, id: u8) -> Result<u32, Failure> {
        Err(Failure::Network(world.run() + u32::from(id)))
    }
    #[idempotent(key = last, store = world.idempotency, skip(world), errors = Failure::is_final)]
    async fn decided(world: &World, last: bool) -> Result<u32, Failure> {
        let run = world.run();
        Err(if last { Failure::Declined(run) } else { Failure::Network(run) })
    }
    let world = World::new();
    assert_eq!(released(&world, 0).await, Err(Failure::Declined(1)));
    assert_eq!(released(&world, 0).await, Err(Failure::Declined(2)));
    assert_eq!(stored(&world, 0).await, Err(Failure::Network(3)));
    assert_eq!(stored(&world, 0).await, Err(Failure::Network(3)));
    assert_eq!(decided(&world, true).await, Err(Failure::Declined(4)));
    assert_eq!(decided(&world, true).await, Err(Failure::Declined(4)));
    assert_eq!(decided(&world, false).await, Err(Failure::Network(5)));
    assert_eq!(decided(&world, false).await, Err(Failure::Network(6)));
}

#[tokio::test]
async fn the_errors_of_the_library_come_as_the_function_s_own() {
    #[idempotent(key = id, store = world.idempotency, skip(world))]
    async fn missing(world: &World, id: Option<u8>) -> Result<u32, Failure> {
        let _ = id;
        Ok(world.run())
    }
    let world = World::new();
    assert_eq!(missing(&world, None).await, Err(Failure::Idempotency("key".to_owned())));
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn a_key_that_fails_returns_before_anything_is_claimed() {
    #[idempotent(key = text.parse::<u64>()?, store = world.idempotency, skip(world))]
    async fn parsed(world: &World, text: &str) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        let _ = text;
        Ok(world.run())
    }
    let world = World::new();
    assert!(parsed(&world, "x").await.unwrap_err().is::<std::num::ParseIntError>());
    assert_eq!(world.runs(), 0);
    assert_eq!(parsed(&world, "1").await.unwrap(), 1);
}

#[tokio::test]
async fn a_literal_that_cannot_work_is_refused_at_the_call_too() {
    // The macro sees that both are literals; here only one is.
    #[idempotent(key = id, ttl = Duration::from_millis(500), lease = "1s", store = world.idempotency, skip(world))]
    async fn contradictory(world: &World, id: u8) -> Result<u32, Error> {
        let _ = id;
        Ok(world.run())
    }
    let world = World::new();
    assert!(matches!(contradictory(&world, 1).await, Err(Error::Operation(OperationError::TtlBelowLease))));
    assert_eq!(world.runs(), 0);
}

#[tokio::test]
async fn a_detached_body_ends_without_its_caller() {
    struct Gate {
        started: Notify,
        open: Notify,
        ended: Notify,
    }
    /// Says when it goes.
    struct Guard(Arc<AtomicU32>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    #[idempotent(key = id, store = world.idempotency, skip(world, gate, _guard), detach)]
    async fn detached(world: World, gate: Arc<Gate>, _guard: Guard, id: u8) -> Result<u32, Error> {
        gate.started.notify_one();
        gate.open.notified().await;
        gate.ended.notify_one();
        Ok(world.run() + u32::from(id))
    }
    let world = World::new();
    let gate = Arc::new(Gate { started: Notify::new(), open: Notify::new(), ended: Notify::new() });
    let dropped = Arc::new(AtomicU32::new(0));
    let call = |dropped: &Arc<AtomicU32>| detached(world.clone(), gate.clone(), Guard(dropped.clone()), 0);
    tokio::select! {
        biased;
        _ = call(&dropped) => panic!("the gate is closed"),
        () = gate.started.notified() => {}
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "an argument that the body does not name lives as long as the body");
    gate.open.notify_one();
    gate.ended.notified().await;
    assert_eq!(call(&Arc::default()).await.unwrap(), 1);
    assert_eq!(world.runs(), 1);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[async_trait]
trait Charges {
    async fn charge(&self, pair: (u8, u8), note: String) -> Result<u32, Error>;
    async fn traced(&self, id: u8) -> Result<u32, Error>;
}

#[async_trait]
impl Charges for World {
    #[idempotent(name = "attribute.async_trait", key = (self.runs.as_ptr().addr(), a), store = self.idempotency, skip(b))]
    async fn charge(&self, (a, b): (u8, u8), mut note: String) -> Result<u32, Error> {
        note.push('!');
        Ok(self.run() + u32::from(b) + u32::try_from(note.len()).unwrap())
    }

    #[tracing::instrument(skip(self))]
    #[idempotent(name = "attribute.traced", store = self.idempotency)]
    async fn traced(&self, id: u8) -> Result<u32, Error> {
        Ok(self.run() + u32::from(id) - 1)
    }
}

#[tokio::test]
async fn methods_of_async_traits_are_run_once() {
    let world = World::new();
    assert_eq!(world.charge((1, 10), "a".to_owned()).await.unwrap(), 1 + 10 + 2);
    assert_eq!(world.charge((1, 20), "a".to_owned()).await.unwrap(), 1 + 10 + 2);
    assert!(matches!(world.charge((1, 10), "b".to_owned()).await, Err(Error::Mismatch { .. })));
    assert_eq!(world.traced(1).await.unwrap(), 2);
    assert_eq!(world.traced(1).await.unwrap(), 2);
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn without_a_store_the_installed_one_is_used() {
    #[idempotent]
    async fn installed(id: u8, text: &str) -> Result<String, Error> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        Ok(format!("{text}{id}{}", RUNS.fetch_add(1, Ordering::Relaxed)))
    }
    assert!(matches!(installed(1, "a").await, Err(Error::NotInstalled)), "shared stores are compiled in");
    idempotent_runtime::install(Idempotency::memory()).unwrap();
    assert_eq!(installed(1, "a").await.unwrap(), "a10");
    assert_eq!(installed(1, "a").await.unwrap(), "a10");
    assert_eq!(installed(2, "a").await.unwrap(), "a21");
}

#[tokio::test]
async fn conditional_arguments_are_hashed_where_they_are() {
    #[idempotent(store = world.idempotency, skip(world))]
    async fn conditional(
        world: &World,
        #[cfg(not(any()))] present: u8,
        #[cfg(any())] absent: NoSuchType,
        last: u8,
    ) -> Result<u32, Error> {
        let _ = (present, last);
        Ok(world.run())
    }
    let world = World::new();
    assert_eq!(conditional(&world, 1, 2).await.unwrap(), 1);
    assert_eq!(conditional(&world, 2, 2).await.unwrap(), 2);
    assert_eq!(conditional(&world, 1, 2).await.unwrap(), 1);
}

#[test]
fn the_future_is_little_larger_than_the_body() {
    async fn plain(world: &World, id: u64) -> Result<u64, Error> {
        let large = [id; 512];
        std::future::ready(()).await;
        Ok(large.iter().sum::<u64>() + u64::from(world.runs()))
    }
    #[idempotent(key = id, store = world.idempotency, skip(world))]
    async fn annotated(world: &World, id: u64) -> Result<u64, Error> {
        let large = [id; 512];
        std::future::ready(()).await;
        Ok(large.iter().sum::<u64>() + u64::from(world.runs()))
    }
    let world = World::new();
    let (plain, annotated) = (size_of_val(&plain(&world, 1)), size_of_val(&annotated(&world, 1)));
    assert!(annotated <= plain + 256, "{plain} bytes became {annotated}");
}

#[test]
fn arguments_are_in_the_future_no_more_often_than_in_a_plain_one() {
    type Large = [[u64; 32]; 32];

    async fn plain(order: String, large: Large) -> Result<u64, Error> {
        std::future::ready(()).await;
        Ok(large[1][2] + order.len() as u64)
    }
    #[idempotent(key = order)]
    async fn annotated(order: String, large: Large) -> Result<u64, Error> {
        std::future::ready(()).await;
        Ok(large[1][2] + order.len() as u64)
    }
    #[idempotent(key = order, detach)]
    async fn detached(order: String, large: Large) -> Result<u64, Error> {
        std::future::ready(()).await;
        Ok(large[1][2] + order.len() as u64)
    }
    let large = [[0; 32]; 32];
    let plain = size_of_val(&plain(String::new(), large));
    for annotated in [size_of_val(&annotated(String::new(), large)), size_of_val(&detached(String::new(), large))] {
        assert!(annotated <= plain + 256, "{plain} bytes became {annotated}");
    }
}

#[idempotent(key = id, store = handle, skip(handle), detach)]
async fn large(handle: Idempotency, id: u32) -> Result<usize, Error> {
    let buffer = [1_u8; 512 << 10];
    tokio::task::yield_now().await;
    Ok(buffer.len() + id as usize)
}

#[async_trait]
trait Large {
    async fn run(self: Arc<Self>, handle: Idempotency, id: u32) -> Result<usize, Error>;
}

#[async_trait]
impl Large for u8 {
    #[idempotent(name = "attribute.large_method", key = id, store = handle, skip(handle), detach)]
    async fn run(self: Arc<Self>, handle: Idempotency, id: u32) -> Result<usize, Error> {
        let buffer = [*self; 512 << 10];
        tokio::task::yield_now().await;
        Ok(buffer.len() + id as usize)
    }
}

/// On workers with the usual stack of 2 MiB, in a debug build.
#[test]
fn a_detached_body_may_be_large() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let handle = Idempotency::memory();
        let attribute = tokio::spawn({
            let handle = handle.clone();
            async move { large(handle, 1).await }
        });
        assert_eq!(attribute.await.unwrap().unwrap(), (512 << 10) + 1);
        let method = tokio::spawn({
            let handle = handle.clone();
            async move { Arc::new(1_u8).run(handle, 2).await }
        });
        assert_eq!(method.await.unwrap().unwrap(), (512 << 10) + 2);
        let call = tokio::spawn({
            async move {
                let body = async {
                    let buffer = [1_u8; 512 << 10];
                    tokio::task::yield_now().await;
                    Ok::<_, Error>(buffer.len())
                };
                handle.call("attribute.large_call").key(1).detached().run(body).await
            }
        });
        assert_eq!(call.await.unwrap().unwrap(), 512 << 10);
    });
}

static INNER_RUNS: AtomicU32 = AtomicU32::new(0);

#[idempotent(name = "attribute.inner", key = order_id)]
async fn inner(order_id: &str) -> Result<u32, Error> {
    tokio::task::yield_now().await;
    Ok(INNER_RUNS.fetch_add(1, Ordering::Relaxed) + 1)
}

#[idempotent(name = "attribute.outer", key = order_id, detach)]
async fn outer(order_id: String) -> Result<u32, Error> {
    inner(&order_id).await
}

/// Also what the test detaches, and whatever other tests do beside it.
#[tokio::test]
async fn a_test_has_a_handle_of_its_own() {
    let handles = [Idempotency::memory(), Idempotency::memory()];
    let test = async |handle: &Idempotency| {
        let test = async {
            let first = outer("order-1".to_owned()).await.unwrap();
            assert_eq!(outer("order-1".to_owned()).await.unwrap(), first);
            assert_eq!(inner("order-1").await.unwrap(), first);
            first
        };
        idempotent_runtime::testing::with(handle.clone(), test).await
    };
    let (first, second) = tokio::join!(test(&handles[0]), test(&handles[1]));
    assert_ne!(first, second, "each has run by itself");
    for handle in &handles {
        assert_eq!(handle.list(None, None, 10).await.unwrap().records.len(), 2);
    }
    assert!(matches!(inner("order-1").await, Err(Error::NotInstalled)), "outside of it, nothing has changed");
}
