//! A key's first call and its repeats.

use idempotent_runtime::{Disposition, Error, State, observe, testing::Method};

use crate::{
    scenarios,
    support::{Backend, Effects},
};

scenarios!(s01_new_key_claims_and_completes_once);

async fn s01_new_key_claims_and_completes_once(backend: Backend) {
    let caller = backend.caller().await;
    let effects = Effects::new();
    let call = caller.idempotency.call("charge", "order-1", &42, async { Ok::<_, Error>(effects.happen()) });
    let (answer, disposition) = observe(call).await;
    assert_eq!(answer.expect("a result"), 1);
    assert_eq!(disposition, Disposition::Executed);
    assert_eq!(caller.store.calls(Method::Claim), 1);
    assert_eq!(caller.store.calls(Method::Complete), 1);
    for other in [Method::Renew, Method::Release, Method::Abandon, Method::Subscribe, Method::Inspect] {
        assert_eq!(caller.store.calls(other), 0, "{other:?}");
    }
    let record = caller.idempotency.inspect("charge", "order-1").await.expect("an answer").expect("a record");
    assert_eq!(record.attempt, 1);
    assert!(matches!(record.state, State::Done(_)));
}
