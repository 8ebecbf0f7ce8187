//! Redis Streams, read by a group of consumers.

use std::time::Duration;

use idempotent_tests::redis_server::RedisProgram;
use redis::{
    AsyncCommands as _,
    aio::MultiplexedConnection,
    streams::{
        StreamAutoClaimOptions, StreamAutoClaimReply, StreamClaimOptions, StreamPendingCountReply, StreamReadOptions,
        StreamReadReply,
    },
};
use tokio::time::sleep;

const STREAM: &str = "orders";
const GROUP: &str = "billing";
/// How long an entry is left alone by all others.
const LEASE: Duration = Duration::from_secs(2);

async fn add(connection: &mut MultiplexedConnection, id: &str) {
    let _: String = connection.xadd(STREAM, "*", &[("id", id), ("payload", "{}")]).await.unwrap();
}

/// Reads the next entry that nobody has got; waits for it on a connection that is used for nothing else.
async fn read(blocking: &mut MultiplexedConnection, consumer: &str, wait: Duration) -> Option<(String, String)> {
    let wait = usize::try_from(wait.as_millis()).unwrap();
    let options = StreamReadOptions::default().group(GROUP, consumer).count(1).block(wait);
    let reply: Option<StreamReadReply> = blocking.xread_options(&[STREAM], &[">"], &options).await.unwrap();
    let entry = reply?.keys.pop()?.ids.pop()?;
    Some((entry.id.clone(), entry.get("id").unwrap()))
}

/// Claims the entries that nobody has settled for as long as the lease.
async fn claim(connection: &mut MultiplexedConnection, consumer: &str) -> Vec<(String, String)> {
    let options = StreamAutoClaimOptions::default();
    let lease = LEASE.as_millis() as u64;
    let reply: StreamAutoClaimReply =
        connection.xautoclaim_options(STREAM, GROUP, consumer, lease, "0-0", options).await.unwrap();
    reply.claimed.into_iter().map(|entry| (entry.id.clone(), entry.get("id").unwrap())).collect()
}

/// The entries that are not settled, each with its consumer and the number of its deliveries.
async fn pending(connection: &mut MultiplexedConnection) -> Vec<(String, String, usize)> {
    let reply: StreamPendingCountReply = connection.xpending_count(STREAM, GROUP, "-", "+", 10).await.unwrap();
    reply.ids.into_iter().map(|entry| (entry.id, entry.consumer, entry.times_delivered)).collect()
}

async fn create_group(connection: &mut MultiplexedConnection) {
    let _: () = connection.xgroup_create_mkstream(STREAM, GROUP, "0").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_claimed_from_a_consumer_that_is_silent() {
    let server = RedisProgram::Redis.start_durable().await;
    let (mut connection, mut blocking) = (server.client().await, server.client().await);
    create_group(&mut connection).await;
    let reading = tokio::spawn(async move { read(&mut blocking, "a", Duration::from_secs(10)).await });
    add(&mut connection, "first").await;
    let (entry, id) = reading.await.unwrap().unwrap();
    assert_eq!(id, "first");
    assert_eq!(claim(&mut connection, "b").await, []);

    // A sign of life begins its lease anew, and is no delivery.
    sleep(LEASE / 2).await;
    let options = StreamClaimOptions::default().idle(0).with_justid();
    let _: Vec<String> = connection.xclaim_options(STREAM, GROUP, "a", 0, &[&entry], options).await.unwrap();
    sleep(LEASE / 2).await;
    assert_eq!(claim(&mut connection, "b").await, []);
    assert_eq!(pending(&mut connection).await, [(entry.clone(), "a".to_owned(), 1)]);

    sleep(LEASE).await;
    assert_eq!(claim(&mut connection, "b").await, [(entry.clone(), "first".to_owned())]);
    assert_eq!(pending(&mut connection).await, [(entry.clone(), "b".to_owned(), 2)]);
    // Whoever has it: an acknowledgement settles it, once.
    let settled: [u32; 2] = [
        connection.xack(STREAM, GROUP, &[&entry]).await.unwrap(),
        connection.xack(STREAM, GROUP, &[&entry]).await.unwrap(),
    ];
    assert_eq!(settled, [1, 0]);
    assert_eq!(pending(&mut connection).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_groups_and_claims_outlive_a_kill() {
    let mut server = RedisProgram::Redis.start_durable().await;
    let (mut connection, mut blocking) = (server.client().await, server.client().await);
    create_group(&mut connection).await;
    for id in ["settled", "pending", "unread"] {
        add(&mut connection, id).await;
    }
    let (settled, _) = read(&mut blocking, "a", LEASE).await.unwrap();
    let _: u32 = connection.xack(STREAM, GROUP, &[settled]).await.unwrap();
    let (left, _) = read(&mut blocking, "a", LEASE).await.unwrap();

    server.kill();
    assert!(connection.xlen::<_, usize>(STREAM).await.is_err());
    server.restart().await;
    let (mut connection, mut blocking) = (server.client().await, server.client().await);
    assert_eq!(pending(&mut connection).await, [(left.clone(), "a".to_owned(), 1)]);
    let (_, id) = read(&mut blocking, "a", LEASE).await.unwrap();
    assert_eq!(id, "unread");
    sleep(LEASE).await;
    let claimed = claim(&mut connection, "b").await;
    assert_eq!(claimed.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["pending", "unread"]);
}

/// Why no program deletes its consumer: what it has not settled is never delivered again.
#[tokio::test]
async fn a_deleted_consumer_takes_its_entries_along() {
    let server = RedisProgram::Redis.start_durable().await;
    let mut connection = server.client().await;
    create_group(&mut connection).await;
    add(&mut connection, "lost").await;
    read(&mut connection, "a", LEASE).await.unwrap();
    assert_eq!(connection.xgroup_delconsumer::<_, _, _, u32>(STREAM, GROUP, "a").await.unwrap(), 1);
    sleep(LEASE).await;
    assert_eq!(claim(&mut connection, "b").await, []);
    assert_eq!(read(&mut connection, "b", Duration::from_millis(1)).await, None);
    // It is still in the stream.
    assert_eq!(connection.xlen::<_, usize>(STREAM).await.unwrap(), 1);
}
