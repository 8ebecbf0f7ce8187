//! A process of callers, for chaos: its arguments are a server's URL, the history's file, its number and its seed.
//!
//! It calls until its standard input ends, and then lets its calls end.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use idempotent_runtime::{Idempotency, store::redis::RedisStore};
use idempotent_tests::chaos::{calls::Caller, history::Log, recorder::Recorder};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{io::AsyncReadExt as _, task::JoinSet, time::sleep};

const CALLERS: usize = 5;
const KEYS: u32 = 6;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [url, file, process, seed] = <[String; 4]>::try_from(std::env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| "four arguments: URL, file, process, seed")?;
    let log = Log::file(process.parse()?, Path::new(&file));
    let mut rng = StdRng::seed_from_u64(seed.parse()?);
    let short = Duration::from_millis(250);
    let store = loop {
        let builder = RedisStore::builder().connection_timeout(short).response_timeout(short);
        match builder.connect(&url).await {
            Ok(store) => break store,
            Err(_) => sleep(short).await,
        }
    };
    let idempotency = Idempotency::new(Recorder::new(store, log.clone()));
    let caller = Caller { idempotency, log, keys: KEYS, blocks: true };

    let ended = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (caller, ended) = (caller.clone(), Arc::clone(&ended));
        let mut rng = StdRng::seed_from_u64(rng.next_u64());
        callers.spawn(async move {
            while !ended.load(Relaxed) {
                caller.call(&mut rng).await;
                sleep(Duration::from_millis(rng.random_range(0..60))).await;
            }
        });
    }
    let mut orders = String::new();
    tokio::io::stdin().read_to_string(&mut orders).await?;
    ended.store(true, Relaxed);
    callers.join_all().await;
    Ok(())
}
