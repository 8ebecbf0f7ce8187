//! The outside world, as the service sees it: a card network and a mail server, in another process.

mod ledger;
mod server;

use std::{future::pending, io, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

pub(crate) use self::{
    ledger::{Charge, Ledger, Mail},
    server::{Counts, Server},
};
use crate::Failure;

/// A request, as one line of JSON. The answer is a line with a number or `null`.
#[derive(Serialize, Deserialize)]
struct Request {
    order_id: String,
    what: What,
}

#[derive(Serialize, Deserialize)]
enum What {
    /// Charges the card; under a known key, answers with the first charge.
    Charge { key: String, cents: i64 },
    /// Asks for the charge with a key.
    FindCharge { key: String },
    /// Sends a mail.
    Mail { charge: i64 },
    /// Asks for the mail about an order.
    FindMail,
}

/// Connections to the outside world. Whatever goes wrong on the way is no answer: these functions then wait for ever, and the
/// caller gives up.
pub(crate) struct Outside(SocketAddr);

impl Outside {
    pub(crate) fn at(address: &str) -> Result<Self, Failure> {
        Ok(Self(address.parse()?))
    }

    pub(crate) async fn charge(&self, order_id: &str, cents: i64, key: &str) -> i64 {
        self.number(order_id, What::Charge { key: key.to_owned(), cents }).await
    }

    pub(crate) async fn find_charge(&self, order_id: &str, key: &str) -> Option<i64> {
        self.ask(order_id, What::FindCharge { key: key.to_owned() }).await
    }

    pub(crate) async fn send_mail(&self, order_id: &str, charge: i64) -> i64 {
        self.number(order_id, What::Mail { charge }).await
    }

    pub(crate) async fn find_mail(&self, order_id: &str) -> Option<i64> {
        self.ask(order_id, What::FindMail).await
    }

    async fn number(&self, order_id: &str, what: What) -> i64 {
        match self.ask(order_id, what).await {
            Some(number) => number,
            None => pending().await,
        }
    }

    async fn ask(&self, order_id: &str, what: What) -> Option<i64> {
        match self.exchange(&Request { order_id: order_id.to_owned(), what }).await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        }
    }

    async fn exchange(&self, request: &Request) -> io::Result<Option<i64>> {
        let mut stream = TcpStream::connect(self.0).await?;
        let request = serde_json::to_string(request)? + "\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    }
}
