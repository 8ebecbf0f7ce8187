//! The process with the consumers: it works both queues off, and relays the outbox, until it is told to stop or is killed.

use futures_util::Stream;
use idempotent_examples::{print, rabbitmq, redis_streams};
use idempotent_runtime::{
    Idempotency,
    consumer::{Delivery, Limits},
    outbox::Relay,
};
use sqlx::Pool;
use tokio::sync::watch;

use super::{
    Db,
    broker::Sender,
    open,
    queue::Queue,
    service::{LEASE, ORDERS, PAYMENTS, book_order, book_payment, inbox},
};
use crate::{Args, Failure, brokers::GROUP, stop};

/// The number of handlers of each inbox that run at a time. On SQLite one of a file does.
const AT_ONCE: usize = 8;
/// The number of messages that RabbitMQ hands over before the first of them is settled: those that run, and those that wait for
/// their next attempt.
const PREFETCH: u16 = 32;

pub(crate) async fn consume(args: &Args) -> Result<(), Failure> {
    let (pool, idempotency) = open(&args.store).await?;
    let sender = Sender::connect(args.broker.as_deref(), &pool).await?;
    match &args.broker {
        None => {
            let [orders, payments] = [ORDERS, PAYMENTS].map(|topic| Queue::new(&pool, topic).deliveries());
            Box::pin(work(&pool, &idempotency, orders, payments, sender)).await
        }
        Some(url) if url.starts_with("amqp") => {
            let queue = |name| rabbitmq::Deliveries::new(url, name, PREFETCH).stream();
            Box::pin(work(&pool, &idempotency, queue(ORDERS), queue(PAYMENTS), sender)).await
        }
        Some(url) => {
            let stream = async |name: &str| {
                let (stream, group, name) = (name.to_owned(), GROUP.to_owned(), "consumer".to_owned());
                let consumer = redis_streams::Consumer { stream, group, name, lease: LEASE };
                redis_streams::Deliveries::connect(url, consumer).await.map(redis_streams::Deliveries::stream)
            };
            Box::pin(work(&pool, &idempotency, stream(ORDERS).await?, stream(PAYMENTS).await?, sender)).await
        }
    }
}

/// Works both queues off. The shutdown lets running handlers end, and gives back what has not begun.
async fn work<D: Delivery>(
    pool: &Pool<Db>,
    idempotency: &Idempotency,
    orders: impl Stream<Item = D>,
    payments: impl Stream<Item = D>,
    sender: Sender,
) -> Result<(), Failure> {
    let (booking, paying) = (inbox(idempotency, "book-order")?, inbox(idempotency, "book-payment")?);
    let relay = Relay::new(pool.clone(), sender).lease(LEASE);
    let (told, (stop, _)) = (stop::told()?, watch::channel(false));
    let stopped = || {
        let mut stop = stop.subscribe();
        async move { drop(stop.wait_for(|stop| *stop).await) }
    };
    print("ready\n")?;
    tokio::join!(
        async {
            told.await;
            stop.send_replace(true);
        },
        booking.run_in(pool, orders, Limits::new(AT_ONCE), stopped(), |tx, message, run| {
            Box::pin(book_order(tx.0, message, run))
        }),
        paying.run_in(pool, payments, Limits::new(AT_ONCE), stopped(), |tx, message, run| {
            Box::pin(book_payment(tx.0, message, run))
        }),
        relay.run(stopped()),
    );
    Ok(())
}
