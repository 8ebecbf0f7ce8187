//! A TCP proxy that loses requests, replies and connections on demand.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a harness that cannot do its work fails the test")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// The fault that the proxy adds to the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Once: drops the next request and closes its connection.
    CutBeforeRequest,
    /// Once: passes the next request on and closes its connection at once.
    CutAfterRequest,
    /// Once: passes the next request on, waits for the reply, drops it and closes the connection.
    CutBeforeReply,
    /// Passes everything on this much later.
    Delay(Duration),
    /// Swallows all requests, and keeps the connections: a half-open network.
    LoseRequests,
    /// Passes requests on and swallows all replies.
    LoseReplies,
    /// Refuses new connections. [`Proxy::cut`] ends the old ones.
    Refuse,
}

/// A proxy in front of one server. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<String>,
    fault: Mutex<Fault>,
    /// The number of requests or replies that pass before a fault that happens once.
    skip: AtomicU32,
    /// The number of requests that have come.
    requests: AtomicU64,
    /// Connections end when this changes.
    cuts: watch::Sender<u64>,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the fault if it is this one and its turn: it happens once.
    fn take(&self, fault: Fault) -> bool {
        let mut current = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != fault {
            return false;
        }
        let skipped = self.skip.load(Ordering::Relaxed);
        if skipped > 0 {
            self.skip.store(skipped - 1, Ordering::Relaxed);
            return false;
        }
        *current = Fault::None;
        true
    }
}

impl Proxy {
    /// A proxy in front of `host:port`.
    ///
    /// # Panics
    ///
    /// Where no port is free.
    pub async fn start(target: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target.into()),
            fault: Mutex::new(Fault::None),
            skip: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// The address at which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens from now on.
    pub fn set(&self, fault: Fault) {
        self.set_after(0, fault);
    }

    /// Sets what happens, once this many requests (or replies, where they are what is lost) have passed.
    pub fn set_after(&self, skip: u32, fault: Fault) {
        self.shared.skip.store(skip, Ordering::Relaxed);
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The fault that is set now: [`Fault::None`] after a fault that happens once has happened.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.shared.fault()
    }

    /// Counts the requests that have come so far. A request that comes in several parts counts once for each.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Leads new connections to another server.
    pub fn retarget(&self, target: impl Into<String>) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target.into();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.fault() == Fault::Refuse {
            continue;
        }
        let cut = shared.cuts.subscribe();
        tokio::spawn(serve(client, Arc::clone(&shared), cut));
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>, mut cut: watch::Receiver<u64>) {
    let target = shared.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(server) = TcpStream::connect(target).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("TCP_NODELAY");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever ends first ends the connection, in both directions.
    tokio::select! {
        () = pass_requests(from_client, to_server, &shared) => {}
        () = pass_replies(from_server, to_client, &shared) => {}
        _ = cut.changed() => {}
    }
}

async fn pass_requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if shared.take(Fault::CutBeforeRequest) {
            return;
        }
        let last = shared.take(Fault::CutAfterRequest);
        match shared.fault() {
            Fault::LoseRequests => continue,
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            _ => {}
        }
        if to.write_all(&buffer[..len]).await.is_err() || last {
            return;
        }
    }
}

async fn pass_replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if shared.take(Fault::CutBeforeReply) {
            return;
        }
        match shared.fault() {
            Fault::LoseReplies => continue,
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            _ => {}
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
