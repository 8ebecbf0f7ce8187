//! The signals that end the program.

use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
};

use crate::Failure;

/// Waits for Ctrl-C, or for SIGTERM, with which service managers stop a program.
pub(crate) fn signalled() -> Result<impl Future<Output = ()>, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Waits for the same, or for the end of the process that has started this one, which holds the other end of standard input.
pub(crate) fn told() -> Result<impl Future<Output = ()>, Failure> {
    let signalled = signalled()?;
    Ok(async move {
        let mut input = tokio::io::stdin();
        tokio::select! {
            () = signalled => {}
            _ = input.read_u8() => {}
        }
    })
}
