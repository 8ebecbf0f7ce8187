//! The ends of the command: its exit codes, and the one line of a failure.

use std::{error::Error as StdError, process::ExitCode};

use idempotent_runtime::operator::printable;

/// The end of a command that has done its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine,
    Found,
}

impl Exit {
    pub(crate) const fn found_if(found: bool) -> Self {
        if found { Self::Found } else { Self::Fine }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Found => 1,
        })
    }
}

/// The reason why a command could not do its work.
pub(crate) enum Failure {
    Usage(String),
    Store(String),
    /// The reader of standard output has gone, as `head` does when it has enough.
    Closed,
}

impl Failure {
    pub(crate) fn store(error: &(dyn StdError + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |error| (*error).source());
        let mut text = error.to_string();
        for cause in causes.map(ToString::to_string) {
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        Self::Store(text)
    }

    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Closed => 0,
            Self::Usage(_) => 2,
            Self::Store(_) => 3,
        })
    }

    /// One line, without the password of the URL, whatever a driver quotes; `None` where there is nothing to say.
    pub(crate) fn line(&self, url: Option<&str>) -> Option<String> {
        let (Self::Usage(text) | Self::Store(text)) = self else { return None };
        let text = printable(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        Some(match url.and_then(password) {
            Some(password) => text.replace(password, "***"),
            None => text,
        })
    }
}

fn password(url: &str) -> Option<&str> {
    let (login, _) = url.split_once("://")?.1.rsplit_once('@')?;
    login.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

impl From<idempotent_runtime::Error> for Failure {
    fn from(error: idempotent_runtime::Error) -> Self {
        Self::store(&error)
    }
}

impl From<idempotent_runtime::SetupError> for Failure {
    fn from(error: idempotent_runtime::SetupError) -> Self {
        Self::store(&error)
    }
}

impl From<idempotent_runtime::StoreError> for Failure {
    fn from(error: idempotent_runtime::StoreError) -> Self {
        Self::store(&error)
    }
}

/// Of standard output.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Usage(format!("the output cannot be written: {error}"))
    }
}
