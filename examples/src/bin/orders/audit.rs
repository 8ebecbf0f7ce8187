//! The proof: what the orders were told, against the books of the card network, the mail server and the stock.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    Args, Failure,
    order::{Confirmation, Order},
    outside::{Charge, Ledger, Mail},
    places::Places,
    stock::{Reservation, Stock},
};

/// The sums of the books, and the mistakes in them.
#[derive(Default, Serialize)]
pub(crate) struct Audit {
    pub(crate) charges: u64,
    pub(crate) charged_cents: i64,
    pub(crate) reservations: u64,
    pub(crate) mails: u64,
    /// Orders with more than one charge, or with more than one mail.
    pub(crate) charged_twice: u64,
    pub(crate) mailed_twice: u64,
    /// Articles of which more or less is missing than was reserved, and orders with more than one reservation.
    pub(crate) stock_wrong: u64,
    /// Orders that were told "placed" although the books have no charge, reservation or mail of that number for it, or another
    /// amount.
    pub(crate) lost: u64,
}

impl Audit {
    /// Reads the books. They are those of all orders, also of other runs of the program.
    pub(crate) async fn read(
        args: &Args,
        places: &Places,
        ledger: &Ledger,
        told: &BTreeMap<u64, Confirmation>,
    ) -> Result<Self, Failure> {
        let (charges, mails) = (ledger.charges().await?, ledger.mails().await?);
        let (books, reservations) = Stock::open(&places.stock).await?.audit().await?;
        let charges = by_order(charges, |charge| &charge.order_id);
        let mails = by_order(mails, |mail| &mail.order_id);
        let reservations = by_order(reservations, |reservation| &reservation.order_id);
        let twice = |counts: usize| u64::from(counts > 1);
        let mut audit = Self {
            charges: charges.values().map(|charges| charges.len() as u64).sum(),
            charged_cents: charges.values().flatten().map(|charge| charge.cents).sum(),
            reservations: reservations.values().map(|reservations| reservations.len() as u64).sum(),
            mails: mails.values().map(|mails| mails.len() as u64).sum(),
            charged_twice: charges.values().map(|charges| twice(charges.len())).sum(),
            mailed_twice: mails.values().map(|mails| twice(mails.len())).sum(),
            stock_wrong: u64::try_from(books.off_stock + books.reserved_twice)?,
            lost: 0,
        };
        for (&number, confirmation) in told {
            let order = Order::new(args.seed, number);
            let id = order.id.as_str();
            let is_there =
                has(&charges, id, |charge: &Charge| (charge.id, charge.cents) == (confirmation.charge, order.cents))
                    && has(&reservations, id, |reservation: &Reservation| {
                        (reservation.id, reservation.article, reservation.quantity)
                            == (confirmation.reservation, order.article, order.quantity)
                    })
                    && has(&mails, id, |mail: &Mail| {
                        (mail.id, mail.charge) == (confirmation.mail, confirmation.charge)
                    });
            audit.lost += u64::from(!is_there);
        }
        Ok(audit)
    }
}

fn by_order<T>(rows: Vec<T>, order_id: impl Fn(&T) -> &str) -> BTreeMap<String, Vec<T>> {
    let mut orders: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for row in rows {
        orders.entry(order_id(&row).to_owned()).or_default().push(row);
    }
    orders
}

fn has<T>(books: &BTreeMap<String, Vec<T>>, order_id: &str, is_told: impl Fn(&T) -> bool) -> bool {
    books.get(order_id).is_some_and(|rows| rows.iter().any(is_told))
}
