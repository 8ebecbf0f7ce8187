//! A `&mut` argument that is missing in `skip`.

use idempotent_runtime::{Error, idempotent};

#[idempotent(skip(db))]
async fn charge(db: &mut String, order_id: u64, log: Option<&mut Vec<String>>) -> Result<u64, Error> {
    db.push('!');
    drop(log);
    Ok(order_id)
}

fn main() {
    drop(charge(&mut String::new(), 1, None));
}
