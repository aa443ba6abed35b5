//! The edge: turns a command line into an exit code. 0 ok, 1 it failed, 2 wrong configuration or usage; the watchdog
//! ends the process with 3 by itself.
use std::{
    env,
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};
use tarsier::{
    base::{clock::SystemClock, memory::keep_large_apart},
    cli::{self, CliError, Command, NoCommand},
    config::ConfigError,
    run,
};

const FAILED: u8 = 1;
const WRONG: u8 = 2;

fn main() -> ExitCode {
    keep_large_apart();
    let command = match cli::parse(env::args_os()) {
        Ok(command) => command,
        Err(NoCommand::Asked(text)) => {
            // Nobody is left to be told that help found no reader.
            io::stdout().write_all(text.as_bytes()).ok();
            return ExitCode::SUCCESS;
        }
        Err(NoCommand::Wrong(text)) => return fail(&text, WRONG),
    };
    match dispatch(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => fail(&format_args!("{err:#}"), exit_code(&err)),
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    match command {
        Command::Config(args) => cli::config::run(&args, out)?,
        Command::Sockets(args) => cli::sockets::run(&args, out)?,
        Command::Ps(args) => cli::ps::run(&args, &SystemClock, out)?,
        Command::Inspect(args) => cli::inspect::run(&args, &SystemClock, out)?,
        Command::Explain(args) => cli::explain::run(&args, out)?,
        Command::Events(args) => cli::events::run(&args, out)?,
        Command::Tap(args) => cli::tap::run(&args, out)?,
        Command::Reload(args) => cli::reload::run(&args, out)?,
        Command::Programs(args) => cli::programs::run(&args, out)?,
        Command::Check(args) => cli::check::run(&args, out)?,
        Command::Run(args) => run::run(&args)?,
        Command::Replay(args) => cli::replay::run(&args, out)?,
    }
    Ok(())
}

fn exit_code(err: &anyhow::Error) -> u8 {
    let wrong = err.is::<ConfigError>() || matches!(err.downcast_ref(), Some(CliError::Config(_)));
    if wrong { WRONG } else { FAILED }
}

/// One line, whatever the error has to say.
fn fail(what: &dyn Display, code: u8) -> ExitCode {
    let line = what.to_string().replace('\n', " ");
    writeln!(io::stderr(), "tarsier: {line}").ok();
    ExitCode::from(code)
}
