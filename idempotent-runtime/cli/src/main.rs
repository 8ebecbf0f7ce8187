//! The command `idempotent`: records, and the calls that would meet them, for the people who run a service.

mod arguments;
mod connect;
mod dead;
mod doctor;
mod failure;
mod keys;
mod list;
mod migrate;
mod output;
mod record_view;
mod resolve;
mod stats;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::generate;

use crate::{
    arguments::{Arguments, Command},
    failure::{Exit, Failure},
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(Failure::Store(format!("the runtime cannot be started: {error}"))),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(line) = failure.line(arguments.store.as_deref()) {
                eprintln!("idempotent: {line}");
            }
            failure.exit()
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let out = output::Output::new(arguments.json);
    match &arguments.command {
        Command::List(options) => list::list(&connect::open(arguments).await?, options, out).await,
        Command::Show(options) => keys::show(&connect::open(arguments).await?, options, out).await,
        Command::Explain(options) => keys::explain(&connect::open(arguments).await?, options, out).await,
        Command::Resolve(options) => resolve::resolve(&connect::open(arguments).await?, options, out).await,
        Command::Dead(command) => dead::dead(&connect::open(arguments).await?, command, out).await,
        Command::Stats(options) => stats::stats(&connect::open(arguments).await?, options, out).await,
        Command::Purge => migrate::purge(&connect::open(arguments).await?, out).await,
        Command::Migrate => migrate::migrate(arguments, out).await,
        Command::Doctor => doctor::doctor(arguments, out).await,
        Command::Completions { shell } => {
            generate(*shell, &mut Arguments::command(), "idempotent", &mut std::io::stdout());
            Ok(Exit::Fine)
        }
    }
}
