//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use idempotent_runtime::{operator::StateFilter, store::KeyDigest};

/// Looks at the records of idempotent functions, and explains what the next call of a key would get.
///
/// Keys are shown. Arguments, results and errors are shown only with --reveal.
///
/// Exit codes: 0 fine; 1 found something that needs you (a key without a record, dead letters, a dangerous setting); 2 usage;
/// 3 the store failed, refused, or has a schema of another version.
#[derive(Parser)]
#[command(name = "idempotent", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The store: redis://, rediss://, redis+cluster://, redis+sentinel://, postgres:// or sqlite://.
    #[arg(long, value_name = "URL", env = "IDEMPOTENT_STORE", hide_env_values = true, global = true)]
    pub(crate) store: Option<String>,
    /// The table of the records, in PostgreSQL and SQLite.
    #[arg(long, value_name = "NAME", default_value = "idempotent_records", global = true)]
    pub(crate) table: String,
    /// The prefix of the records' keys, in Redis.
    #[arg(long, value_name = "TEXT", default_value = "idempotent:", global = true)]
    pub(crate) prefix: String,
    /// Prints JSON, one object a line, in place of text for people. Times are in milliseconds.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists records, page by page. A record can be listed twice.
    List(ListOptions),
    /// Shows one record, of a key or of the digest that an event has. Exit code 1 where there is none.
    Show(ShowOptions),
    /// Explains what the next call of a key would get, and why.
    ///
    /// The policies of the function are not on record. Where the answer depends on them, there is one for each.
    Explain(ExplainOptions),
    /// Ends what a record leaves open: it did happen, it did not, or it is forgotten.
    ///
    /// The record is changed only if it is still the one that was looked at: of two operators, or an operator and a run, one comes
    /// first. A run that is alive is left alone, and exit code 1 says that nothing was changed. The record keeps who has
    /// resolved it, when and why: `show` tells it.
    Resolve(ResolveOptions),
    /// Dead letters: messages that were given up. PostgreSQL and SQLite keep them.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Counts records by operation and state.
    Stats(StatsOptions),
    /// Removes expired records, in batches. Redis removes them by itself.
    Purge,
    /// Creates the schema, or brings it up to date. No other command changes it. Redis needs none.
    Migrate,
    /// Looks for settings of the server that endanger records: what each costs, and how to mend it.
    ///
    /// Exit code 1 where there is one.
    Doctor,
    /// Prints the completions for a shell, to be read by it at its start.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: Shell,
    },
}

/// A key is written as two arguments, as `list` shows them: OPERATION and KEY.
#[derive(Args)]
pub(crate) struct Key {
    /// The operation, as `list` shows it.
    pub(crate) operation: String,
    /// The key, encoded as `list` shows it. Quote it for the shell: it may hold ( ) ~ # and %.
    pub(crate) key: String,
}

#[derive(Args)]
pub(crate) struct ListOptions {
    /// Only records of this operation.
    pub(crate) operation: Option<String>,
    /// Only records in this state: running, lapsed, failed, abandoned, suspended (failed or abandoned, and too early for the
    /// next run), ok, error, not-kept, exhausted, dead.
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<StateFilter>,
    /// Only records that the store keeps for no longer than this: 30s, 10m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) expires_within: Option<Duration>,
    /// The most records.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Shows arguments, results and errors, with --json.
    #[arg(long, requires = "json")]
    pub(crate) reveal: bool,
}

#[derive(Args)]
pub(crate) struct ShowOptions {
    /// The operation, as `list` shows it.
    #[arg(required_unless_present = "digest")]
    pub(crate) operation: Option<String>,
    /// The key, encoded as `list` shows it. Quote it for the shell: it may hold ( ) ~ # and %.
    #[arg(required_unless_present = "digest", conflicts_with = "digest")]
    pub(crate) key: Option<String>,
    /// The `key_digest` of an event, in place of the key. All records are looked at, or all of OPERATION.
    #[arg(long, value_name = "HEX")]
    pub(crate) digest: Option<KeyDigest>,
    /// Shows arguments, result and error.
    #[arg(long)]
    pub(crate) reveal: bool,
}

#[derive(Args)]
pub(crate) struct ExplainOptions {
    #[command(flatten)]
    pub(crate) key: Key,
    /// A file with the arguments of the next call, as JSON: an object of those that the function hashes. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) arguments: Option<PathBuf>,
    /// The function's `max_attempts`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_attempts: Option<u32>,
}

#[derive(Args)]
pub(crate) struct ResolveOptions {
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) said: Said,
    /// Why, for whoever looks at the record later.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// The name of whoever says so; the user of this terminal unless it is given.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Changes nothing if the record is at another attempt.
    #[arg(long, value_name = "N")]
    pub(crate) if_attempt: Option<u32>,
    /// The time for which the record is kept from now on: 30m, 12h, 7d.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    pub(crate) keep: Duration,
    /// Resolves a run that is alive, too. It may be at work: what it does stays done, and it cannot record its end.
    #[arg(long)]
    pub(crate) force: bool,
    /// Confirms it without being asked.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// The operator's word about what happened.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Said {
    /// It did happen, with this result, as the JSON that serde writes of it: all further calls get it.
    #[arg(long, value_name = "JSON")]
    pub(crate) result: Option<String>,
    /// It failed for good, with this error, as JSON, for a function that keeps its errors: all further calls get it.
    #[arg(long, value_name = "JSON")]
    pub(crate) error: Option<String>,
    /// It did not happen: the next call runs it, as the first attempt. Recorded steps are not repeated.
    #[arg(long)]
    pub(crate) rerun: bool,
    /// Nothing is known of it any more: the record is removed, and the next call runs.
    #[arg(long)]
    pub(crate) forget: bool,
}

#[derive(Subcommand)]
pub(crate) enum DeadCommand {
    /// Lists the dead letters of an operation. Exit code 1 where there are some.
    List {
        /// The operation of the inbox.
        operation: String,
        /// Shows errors, and with --json payloads and headers.
        #[arg(long)]
        reveal: bool,
    },
    /// Has a letter worked off again by a running consumer. Exit code 1 where that cannot be.
    Replay {
        /// The operation of the inbox.
        operation: String,
        /// The number that `dead list` shows.
        id: i64,
    },
    /// Removes a letter. Exit code 1 where there is none.
    Discard {
        /// The operation of the inbox.
        operation: String,
        /// The number that `dead list` shows.
        id: i64,
        /// Confirms it.
        #[arg(long, required = true)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct StatsOptions {
    /// Only records of this operation.
    pub(crate) operation: Option<String>,
    /// Counts again after this time, until it is interrupted: 10s, 5m. All records are read each time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) watch: Option<Duration>,
}
