//! A process that makes idempotent calls on a SQLite file, for tests that need more than one or that kill one.
//!
//! Arguments: the store's URL, the ledger's path, the first key, the number of keys. Each key is called once, in
//! order; its effect is a line in the ledger, its result the triple of the key. Writes `ready`, waits for a line, and
//! then writes each key once its result was acknowledged.
//!
//! More arguments may follow: the lease and the time to live in ms, and `hold`, with which each body writes `running`
//! after its effect, and waits for a line.

use std::{
    fs::OpenOptions,
    io::{Error as IoError, Write as _, stdin, stdout},
    time::Duration,
};

use idempotent_runtime::{Error, Idempotency, Operation};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ledger, first, count, times @ ..] = arguments.as_slice() else { return Err("four arguments".into()) };
    let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
    let mut operation = Operation::new("sqlite.worker");
    if let [lease, ttl, ..] = times {
        let (lease, ttl) = (Duration::from_millis(lease.parse()?), Duration::from_millis(ttl.parse()?));
        operation = operation.lease(lease).ttl(ttl).wait(Duration::from_secs(60));
    }
    let hold = times.len() > 2;
    let idempotency = Idempotency::connect(url).await?;
    say("ready")?;
    stdin().read_line(&mut String::new())?;
    for key in first..first + count {
        let body = async {
            let line = format!("{key}\n");
            OpenOptions::new().append(true).create(true).open(ledger)?.write_all(line.as_bytes())?;
            if hold {
                say("running")?;
                BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
            }
            Ok::<_, Failure>(key * 3)
        };
        let result = idempotency.call(operation.clone()).key(key).run(body).await?;
        assert_eq!(result, key * 3);
        say(&key.to_string())?;
    }
    Ok(())
}

#[derive(Debug)]
enum Failure {
    Idempotency(Error),
    Ledger(IoError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Idempotency(error)
    }
}

impl From<IoError> for Failure {
    fn from(error: IoError) -> Self {
        Self::Ledger(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Idempotency(error) => error.fmt(f),
            Self::Ledger(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
