//! Ports for servers that are told theirs, and that are killed and started again on it.

#![expect(clippy::expect_used, reason = "a harness that cannot do its work fails the test")]

use std::{
    env::temp_dir,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::{LazyLock, Mutex, PoisonError},
};

/// Below those that systems give to outgoing connections: none of these takes the port of a server that is down.
const PORTS: Range<u16> = 10_240..32_768;
/// A process has a block of ports to itself, as long as it lives.
const BLOCK: u16 = 512;

static OURS: LazyLock<Mutex<Ports>> = LazyLock::new(|| Mutex::new(Ports::new()));

struct Ports {
    block: Range<u16>,
    next: u16,
    /// Locked while this process lives.
    _lock: File,
}

impl Ports {
    fn new() -> Self {
        let mut numbers = 0..(PORTS.end - PORTS.start) / BLOCK;
        let free = numbers.find_map(|number| {
            let lock = File::create(temp_dir().join(format!("ports-of-tests-{number}"))).ok()?;
            lock.try_lock().ok()?;
            let start = PORTS.start + number * BLOCK;
            Some(Self { block: start..start + BLOCK, next: start, _lock: lock })
        });
        free.expect("a block of ports that no other test process has")
    }

    fn take(&mut self) -> u16 {
        let port = self.next;
        self.next = if port + 1 == self.block.end { self.block.start } else { port + 1 };
        port
    }
}

/// A port that nobody uses: no test gets it before this process has asked for 511 others, and no outgoing connection does.
///
/// # Panics
///
/// Where there is none.
#[must_use]
pub fn free_port() -> u16 {
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = std::iter::repeat_with(|| ours.take()).take(BLOCK.into());
    // A service of the machine may have one.
    ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()).expect("a free port")
}
