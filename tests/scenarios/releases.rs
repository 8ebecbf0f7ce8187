//! Records of an earlier release of the service, and of this library.

use std::time::Duration;

use idempotent_runtime::{
    Disposition, Error, Execution, Fingerprint, NotKept, OnAbandoned, Operation,
    store::{Nonce, Outcome, Token, Transition},
    with_disposition,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::support::{Backend, Caller, Failure, LEASE, TTL, record_key, redis_key};
use idempotent_tests::on_every_store;

on_every_store! {
    s36_a_changed_return_type_is_undecodable,
    s36_a_dropped_error_policy_is_undecodable,
}

on_every_store! { only redis:
    s36_todays_record_is_the_golden_one,
    s36_golden_results_are_still_read,
    s36_golden_unfinished_runs_are_still_read,
    s36_golden_run_can_still_be_completed_by_its_owner,
}

const OPERATION: &str = "releases.charge";
const ORDER: &str = "order-36";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    cents: u64,
}

/// The arguments whose hash is in the golden records.
#[derive(Serialize)]
struct Request {
    currency: &'static str,
    cents: u64,
}

const REQUEST: Request = Request { currency: "EUR", cents: 36 };

fn operation() -> Operation {
    Operation::new(OPERATION).ttl(TTL).lease(LEASE).wait(Duration::ZERO)
}

async fn returning<T: Serialize + DeserializeOwned>(caller: &Caller, body: T) -> (Result<T, Error>, Disposition) {
    with_disposition(caller.idempotency.call(operation()).key(ORDER).arguments(&REQUEST).run(async { Ok(body) })).await
}

async fn s36_a_changed_return_type_is_undecodable(backend: Backend) {
    let caller = backend.caller().await;
    returning(&caller, Receipt { cents: 36 }).await.0.expect("a result");
    for repeater in [&caller, &backend.caller().await] {
        let (answer, disposition) = returning(repeater, "another type".to_owned()).await;
        assert!(matches!(answer, Err(Error::Undecodable(_))), "{answer:?}");
        assert!(!disposition.ran());
        // It does not quote the result.
        let text = format!("{:?} {0}", answer.expect_err("undecodable"));
        assert!(!text.contains("36"), "{text}");
    }
    // Who goes back to the type finds the result.
    assert_eq!(returning(&caller, Receipt { cents: 0 }).await.0.expect("a result"), Receipt { cents: 36 });
}

async fn s36_a_dropped_error_policy_is_undecodable(backend: Backend) {
    let caller = backend.caller().await;
    let declined = async { Err::<u64, _>(Failure::Declined { code: 36 }) };
    let call = caller.idempotency.call(operation().keep_errors()).key(ORDER).arguments(&REQUEST).run(declined);
    call.await.expect_err("declined");
    let body = async { panic!("a second run") };
    let call = caller.idempotency.call(operation()).key(ORDER).arguments(&REQUEST).run::<u64, Failure, _>(body);
    let answer = call.await;
    assert!(matches!(answer, Err(Failure::Idempotency(Error::Undecodable(_)))), "{answer:?}");
}

/// A record of version 0.1 of this library, which later ones read whatever they write.
fn golden(state: &[u8; 2], fence: u64, attempt: u32, payload: &str) -> Vec<u8> {
    let mut record = b"IDM1".to_vec();
    record.extend_from_slice(state);
    record.extend_from_slice(&[0xA1; 16]);
    record.extend_from_slice(&fence.to_be_bytes());
    record.extend_from_slice(&attempt.to_be_bytes());
    record.extend_from_slice(&3_600_000_u64.to_be_bytes());
    record.extend_from_slice(&FINGERPRINT);
    record.extend_from_slice(payload.as_bytes());
    record
}

/// The hash of [`REQUEST`] in version 0.1.
const FINGERPRINT: [u8; 32] = [
    119, 121, 21, 247, 69, 23, 195, 7, 97, 236, 243, 38, 4, 49, 162, 40, 138, 167, 119, 60, 211, 233, 36, 152, 100, 50,
    181, 61, 226, 197, 168, 47,
];

/// The key of the record in version 0.1.
const KEY: &str = "idempotent:releases.charge|order-36";

async fn put(backend: &Backend, record: &[u8], keep: Duration) {
    let mut set = redis::cmd("SET");
    set.arg(KEY).arg(record).arg("PX").arg(u64::try_from(keep.as_millis()).expect("less"));
    set.exec_async(&mut backend.server().client().await).await.expect("an answer");
}

async fn s36_todays_record_is_the_golden_one(backend: Backend) {
    let caller = backend.caller().await;
    assert_eq!(*Fingerprint::of(&REQUEST).expect("a fingerprint").as_bytes(), FINGERPRINT);
    assert_eq!(redis_key(&record_key(OPERATION, ORDER)), KEY);
    returning(&caller, Receipt { cents: 36 }).await.0.expect("a result");
    let mut record: Vec<u8> = backend.server().command(&["GET", KEY]).await;
    record[6..22].fill(0xA1);
    assert_eq!(record, golden(b"O0", 0, 1, r#"{"cents":36}"#));
}

async fn s36_golden_results_are_still_read(backend: Backend) {
    let caller = backend.caller().await;
    put(&backend, &golden(b"O0", 0, 1, r#"{"cents":36}"#), TTL).await;
    let (answer, disposition) = returning(&caller, Receipt { cents: 0 }).await;
    assert_eq!((answer.expect("a result"), disposition), (Receipt { cents: 36 }, Disposition::Replayed));
    let other = Request { cents: 37, ..REQUEST };
    let call = caller.idempotency.call(operation()).key(ORDER).arguments(&other).run(async { Ok::<_, Error>(0) });
    assert!(matches!(call.await, Err(Error::Mismatch { .. })));

    put(&backend, &golden(b"E0", 1_700_000_000_000_000, 3, r#"{"Declined":{"code":-36}}"#), TTL).await;
    let call = caller
        .idempotency
        .call(operation().keep_errors())
        .key(ORDER)
        .arguments(&REQUEST)
        .run(async { Ok::<_, Failure>(0) });
    assert!(matches!(call.await, Err(Failure::Declined { code: -36 })));

    for (why, expected) in [("L", NotKept::TooLarge), ("S", NotKept::NotSerializable)] {
        put(&backend, &golden(b"U0", 0, 1, why), TTL).await;
        let (answer, _) = returning(&caller, 0).await;
        assert!(matches!(answer, Err(Error::ResultNotKept(why)) if why == expected), "{answer:?}");
    }
}

async fn s36_golden_unfinished_runs_are_still_read(backend: Backend) {
    const FENCE: u64 = 1_700_000_000_000_000;
    let caller = backend.caller().await;
    for (state, keep) in [(b"R1", LEASE + TTL), (b"A0", TTL)] {
        put(&backend, &golden(state, FENCE, 7, ""), keep).await;
        if state == b"R1" {
            let (answer, _) = returning(&caller, 0).await;
            assert!(matches!(answer, Err(Error::InFlight { .. })), "{answer:?}");
            backend.advance(LEASE).await;
        }
        let refuses = operation().abandoned(OnAbandoned::Refuse);
        let call = caller.idempotency.call(refuses).key(ORDER).arguments(&REQUEST).run(async { Ok::<_, Error>(0) });
        assert!(matches!(call.await, Err(Error::Abandoned { attempt: 7, .. })));
        let body = async {
            let execution = Execution::current().expect("an execution");
            Ok::<_, Error>((execution.attempt(), execution.fence().await?))
        };
        let call = caller.idempotency.call(operation()).key(ORDER).arguments(&REQUEST).run(body);
        let (attempt, fence) = call.await.expect("a result");
        assert_eq!(attempt, 8);
        assert!(fence > FENCE);
    }
}

async fn s36_golden_run_can_still_be_completed_by_its_owner(backend: Backend) {
    put(&backend, &golden(b"R0", 0, 1, ""), LEASE + TTL).await;
    let token = Token::new(Nonce::from_bytes([0xA1; 16]));
    let outcome = Outcome::Ok(r#"{"cents":36}"#.into());
    let store = backend.store().await;
    let transition = store.complete(&record_key(OPERATION, ORDER), &token, &outcome, TTL).await;
    assert_eq!(transition.expect("an answer"), Transition::Applied);
    let record: Vec<u8> = backend.server().command(&["GET", KEY]).await;
    assert_eq!(record, golden(b"O0", 0, 1, r#"{"cents":36}"#));
}
