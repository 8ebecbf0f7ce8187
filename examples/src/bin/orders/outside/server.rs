//! The card network and the mail server. They go on when a client is killed: what was sent arrives.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use idempotent_examples::say;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{Ledger, Request, What};
use crate::chronicle::Chronicle;

/// The longest time, in ms, that a request or its answer is on the way.
const LONGEST_MS: u64 = 25;

/// The number of requests of each kind, and of their endings.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Counts {
    /// Requests that were lost on their way.
    pub(crate) requests_lost: u64,
    /// Answers that were lost on their way, after it had happened.
    pub(crate) answers_lost: u64,
    /// Answers for processes that were killed meanwhile, or had given up.
    pub(crate) answers_unheard: u64,
    /// Charges that were asked for again, and recognised by their key.
    pub(crate) charges_recognised: u64,
    /// Questions after runs that vanished: it had happened; it had not; they got no answer.
    pub(crate) found: u64,
    pub(crate) not_found: u64,
    pub(crate) unknown: u64,
}

pub(crate) struct Server {
    ledger: Ledger,
    chronicle: Arc<Chronicle>,
    state: Mutex<(Counts, StdRng)>,
}

/// The fate of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
}

impl Server {
    /// Serves until the program ends.
    pub(crate) async fn start(
        ledger: Ledger,
        chronicle: Arc<Chronicle>,
        seed: u64,
    ) -> io::Result<(Arc<Self>, SocketAddr)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Mutex::new((Counts::default(), StdRng::seed_from_u64(seed)));
        let server = Arc::new(Self { ledger, chronicle, state });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let server = Arc::clone(&serving);
                        // A client that is killed breaks its connection, at any point.
                        tokio::spawn(async move { drop(server.serve(stream).await) });
                    }
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        });
        Ok((server, address))
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().0.clone()
    }

    fn state(&self) -> MutexGuard<'_, (Counts, StdRng)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.state().0);
    }

    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Request { order_id, what } = serde_json::from_str(&line)?;
        let (fate, there, back) = self.draw(&what);
        sleep(there).await;
        if fate == Fate::RequestLost {
            self.lose(&order_id, &what);
            return silence(stream).await;
        }
        let answer = match self.act(&order_id, &what).await {
            Ok(answer) => answer,
            Err(error) => {
                say(format_args!("the books of the outside world failed: {error}"));
                return silence(stream).await;
            }
        };
        if fate == Fate::AnswerLost {
            self.count(|counts| counts.answers_lost += 1);
            self.chronicle.note(&order_id, "  … but the answer is lost");
            return silence(stream).await;
        }
        // A client says no more: what can be read is the end of its connection.
        if timeout(back, stream.read(&mut [0])).await.is_ok() {
            self.count(|counts| counts.answers_unheard += 1);
            self.chronicle.note(&order_id, "  … but who asked is gone");
            return Ok(());
        }
        stream.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await
    }

    /// Draws what becomes of a request, and how long it and its answer take.
    fn draw(&self, what: &What) -> (Fate, Duration, Duration) {
        let random = &mut self.state().1;
        let mut pause = || Duration::from_millis(random.random_range(0..=LONGEST_MS));
        let (there, back) = (pause(), pause());
        // Of a hundred requests; and of as many answers.
        let (requests_lost, answers_lost) = match what {
            What::Charge { .. } => (4, 6),
            What::Mail { .. } => (2, 4),
            What::FindCharge { .. } | What::FindMail => (25, 0),
        };
        let fate = match random.random_range(0..100) {
            drawn if drawn < requests_lost => Fate::RequestLost,
            drawn if drawn < requests_lost + answers_lost => Fate::AnswerLost,
            _ => Fate::Answered,
        };
        (fate, there, back)
    }

    fn lose(&self, order_id: &str, what: &What) {
        let text = match what {
            What::Charge { .. } => "the charge does not reach the card network",
            What::Mail { .. } => "the mail does not reach the mail server",
            What::FindCharge { .. } => "card network is asked whether it charged, and does not answer",
            What::FindMail => "mail server is asked whether it sent, and does not answer",
        };
        self.chronicle.note(order_id, text);
        self.count(|counts| match what {
            What::Charge { .. } | What::Mail { .. } => counts.requests_lost += 1,
            What::FindCharge { .. } | What::FindMail => counts.unknown += 1,
        });
    }

    async fn act(&self, order_id: &str, what: &What) -> sqlx::Result<Option<i64>> {
        match what {
            What::Charge { key, cents } => {
                let (number, requests) = self.ledger.charge(key, order_id, *cents).await?;
                let text = if requests == 1 {
                    format!("card network makes charge {number}")
                } else {
                    self.count(|counts| counts.charges_recognised += 1);
                    format!("card network knows the key: it is charge {number}")
                };
                self.chronicle.note(order_id, &text);
                Ok(Some(number))
            }
            What::Mail { charge } => {
                let number = self.ledger.send_mail(order_id, *charge).await?;
                self.chronicle.note(order_id, &format!("mail server sends mail {number}"));
                Ok(Some(number))
            }
            What::FindCharge { key } => {
                let found = self.ledger.find_charge(key).await?;
                self.found(order_id, "card network is asked whether it charged", found);
                Ok(found)
            }
            What::FindMail => {
                let found = self.ledger.find_mail(order_id).await?;
                self.found(order_id, "mail server is asked whether it sent", found);
                Ok(found)
            }
        }
    }

    fn found(&self, order_id: &str, asked: &str, found: Option<i64>) {
        self.count(|counts| *if found.is_some() { &mut counts.found } else { &mut counts.not_found } += 1);
        let answer = found.map_or_else(|| "no".to_owned(), |number| format!("yes, number {number}"));
        self.chronicle.note(order_id, &format!("{asked}: {answer}"));
    }
}

/// Says nothing until the client hangs up.
async fn silence(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    stream.read(&mut [0]).await.map(drop)
}
