//! A default name belongs to one function: two functions never answer for each other unawares.

use idempotent_runtime::{Error, Idempotency, OperationError, idempotent, install};
use idempotent_tests::warnings::listen;

fn installed() {
    // Each test may be the first.
    let _ = install(Idempotency::memory());
}

/// The places that the refusal names, without their lines.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, name: &str) {
    let Err(Error::Operation(OperationError::NameTaken(conflict))) = &answer else { panic!("{answer:?}") };
    assert_eq!(conflict.name(), name);
    assert_ne!(conflict.places()[0], conflict.places()[1]);
    let text = answer.unwrap_err().to_string();
    for part in [name, "tests/names.rs:", "`name = \"…\"`"] {
        assert!(text.contains(part), "{text}");
    }
}

async fn refund_in_euro(id: u32) -> Result<String, Error> {
    #[idempotent(key = id)]
    async fn perform(id: u32) -> Result<String, Error> {
        Ok(format!("{id} EUR"))
    }
    perform(id).await
}

async fn refund_in_dollar(id: u32) -> Result<String, Error> {
    #[idempotent(key = id)]
    async fn perform(id: u32) -> Result<String, Error> {
        Ok(format!("{id} USD"))
    }
    perform(id).await
}

#[tokio::test]
async fn functions_in_two_functions_are_not_one() {
    installed();
    assert_eq!(refund_in_euro(7).await.unwrap(), "7 EUR");
    refused(refund_in_dollar(7).await, "names::perform");
    refused(refund_in_dollar(8).await, "names::perform");
    assert_eq!(refund_in_euro(7).await.unwrap(), "7 EUR");
}

struct Order;
struct Refund;

impl Order {
    #[idempotent(key = id)]
    async fn create(id: &str) -> Result<String, Error> {
        Ok(format!("order {id}"))
    }
}

impl Refund {
    #[idempotent(key = id, detach)]
    async fn create(id: String) -> Result<String, Error> {
        Ok(format!("refund {id}"))
    }
}

#[tokio::test]
async fn associated_functions_of_two_types_are_not_one() {
    installed();
    assert_eq!(Order::create("1").await.unwrap(), "order 1");
    refused(Refund::create("1".to_owned()).await, "names::create");
}

#[idempotent(key = id)]
async fn spelled_out_elsewhere(id: u32) -> Result<u32, Error> {
    Ok(id)
}

#[idempotent(name = "names::spelled_out_elsewhere", key = id)]
async fn takes_a_default_name(id: u32) -> Result<u32, Error> {
    Ok(id + 1)
}

#[tokio::test]
async fn a_default_name_cannot_be_spelled_out_for_another_function() {
    installed();
    assert_eq!(takes_a_default_name(1).await.unwrap(), 2);
    refused(spelled_out_elsewhere(1).await, "names::spelled_out_elsewhere");
}

/// Blocks with a function of one name, written by one call of a macro: they have one path and one line.
macro_rules! two_blocks {
    ($id:expr) => {
        (
            {
                #[idempotent(key = id)]
                async fn block(id: u32) -> Result<u32, Error> {
                    Ok(id)
                }
                block($id).await
            },
            {
                #[idempotent(key = id)]
                async fn block(id: u32) -> Result<u32, Error> {
                    Ok(id + 1)
                }
                block($id).await
            },
        )
    };
}

#[tokio::test]
async fn functions_of_one_macro_call_are_several() {
    installed();
    let (first, second) = two_blocks!(1);
    assert_eq!(first.unwrap(), 1);
    let Err(Error::Operation(OperationError::NameTaken(_))) = second else { panic!("{second:?}") };
}

#[idempotent(key = id)]
async fn called_from_many_places(id: u32) -> Result<u32, Error> {
    Ok(id)
}

#[idempotent(name = "names.generic", key = id, skip(value))]
async fn generic<T: Into<u32>>(id: u32, value: T) -> Result<u32, Error> {
    Ok(id + value.into())
}

#[tokio::test]
async fn one_function_stays_one() {
    installed();
    let (events, _guard) = listen();
    for id in 0..3 {
        assert_eq!(called_from_many_places(id).await.unwrap(), id);
        let task = tokio::spawn(async move { called_from_many_places(id).await });
        assert_eq!(task.await.unwrap().unwrap(), id);
    }
    assert_eq!(generic(1, 1_u8).await.unwrap(), 2);
    assert_eq!(generic(2, 1_u16).await.unwrap(), 3);
    assert_eq!(*events.lock().unwrap(), [""; 0]);
}

#[idempotent(name = "names.shared", key = id)]
async fn one_of_two(id: u32) -> Result<u32, Error> {
    Ok(id)
}

#[idempotent(name = "names.shared", key = id)]
async fn other_of_two(id: u32) -> Result<u32, Error> {
    Ok(id + 1)
}

#[tokio::test]
async fn a_name_spelled_out_twice_is_told_once() {
    installed();
    let (events, _guard) = listen();
    assert_eq!(one_of_two(1).await.unwrap(), 1);
    for _ in 0..3 {
        assert_eq!(other_of_two(1).await.unwrap(), 1, "as both authors said");
    }
    let told = events.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("names.shared") && told[0].matches("tests/names.rs:").count() == 2, "{told:?}");
}
