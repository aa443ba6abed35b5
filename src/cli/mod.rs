//! The command line. Parsing and what needs no agent, or talks to one, is here; running one is not.
pub mod check;
pub mod config;
pub mod sockets;
// Asked of a running agent.
pub mod client;
pub mod events;
pub mod explain;
pub mod inspect;
pub mod programs;
pub mod ps;
pub mod reload;
pub mod tap;
// Of a recording.
pub mod replay;
// How an answer is laid out.
mod layout;

use crate::{
    base::logging::LogFormat,
    collect::{CollectError, sockets::Source},
    config::{Admin, ConfigError, Overrides, load},
};
use clap::{Args, Parser, Subcommand, error::ErrorKind};
use client::{Client, ClientError};
use std::{
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Sees every container, service and process of a Linux node: who talks to whom, how fast, with what errors.
#[derive(Debug, Parser)]
#[command(name = "tarsier", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent
    Run(RunArgs),
    /// Tell what this machine lets the agent do, and what to change where it does not
    Check(CheckArgs),
    /// Print the configuration as it is after all its layers
    Config(ConfigArgs),
    /// List the TCP sockets of all network namespaces with their processes; needs no agent
    Sockets(SocketsArgs),
    /// List the containers a running agent knows
    Ps(PsArgs),
    /// Show everything about one container
    Inspect(InspectArgs),
    /// Tell rule by rule why a process belongs where it belongs, or who has to do with an address
    Explain(ExplainArgs),
    /// Print what becomes of processes and containers, as it happens
    Events(EventsArgs),
    /// Print the requests of one container as they are answered: HTTP, Redis, PostgreSQL
    Tap(TapArgs),
    /// Have a running agent read its configuration again, and say what has changed
    Reload(ReloadArgs),
    /// Show what the eBPF programs of a running agent cost
    Programs(ProgramsArgs),
    /// Play back a recording and print its metrics
    Replay(ReplayArgs),
}

#[derive(Debug, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Where and how to log
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Record all that is observed, for replay
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// End with an error if this feature does not work; may be given several times
    #[arg(long, value_name = "FEATURE")]
    pub require: Vec<String>,
}

impl RunArgs {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            admin_socket: self.admin.admin_socket.clone(),
            log_format: self.log_format,
        }
    }
}

#[derive(Debug, Default, Args)]
pub struct FileArgs {
    /// Configuration file, instead of /etc/tarsier/tarsier.yaml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl FileArgs {
    pub fn path(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

#[derive(Debug, Default, Args)]
pub struct AdminArgs {
    /// Unix socket of the admin API
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
}

impl AdminArgs {
    /// A socket that is named needs no configuration: that must not be in the way of asking a running agent. Nor must one
    /// that has become wrong since: the agent goes on without it.
    fn client(&self) -> Result<Client, ConfigError> {
        let socket = match &self.admin_socket {
            Some(socket) => socket.clone(),
            None => match load(None, &Overrides::default()) {
                Ok(config) => config.admin.socket,
                Err(wrong) => Some(Admin::default().socket)
                    .filter(|usual| usual.exists())
                    .ok_or(wrong)?,
            },
        };
        Ok(Client::new(socket))
    }
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// As JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Only say whether it is valid: ok, or the first error and exit code 2
    #[arg(long)]
    pub validate: bool,
}

#[derive(Debug, Args)]
pub struct SocketsArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// As JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Where to look: INET_DIAG (diag), /proc (proc: no bytes and times), or what works for each namespace
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t)]
    pub source: Source,
}

#[derive(Debug, Args)]
pub struct PsArgs {
    /// The agent's answer as it is
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// As ps shows it, e.g. /system.slice/nginx.service
    pub id: String,
    /// The agent's answer as it is
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A pid, or an address with a port: 10.0.0.1:80, [::1]:80
    pub subject: String,
    /// The agent's answer as it is
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Until Ctrl-C, or until the agent ends; there is no other way, for events are not kept
    #[arg(long, required = true)]
    pub follow: bool,
    /// One object a line, as the agent sends it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct TapArgs {
    /// As ps shows it, e.g. /system.slice/nginx.service
    #[arg(value_name = "CONTAINER")]
    pub id: String,
    /// One object a line, as the agent sends it
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// The agent's answer as it is
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct ProgramsArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub config: FileArgs,
    /// Made by run --record
    pub file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("read too slowly: {lost} more events were missed")]
    Lagged { lost: u64 },
    #[error("read too slowly")]
    TooSlow,
    #[error("the tap has failed, the agent's log says why")]
    TapFailed,
    #[error("cannot list the processes")]
    Processes(#[from] CollectError),
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
    #[error("an agent would collect nothing here, the table says why")]
    CollectsNothing,
}

/// Why there is nothing to run, and what to say.
#[derive(Debug, PartialEq, Eq)]
pub enum NoCommand {
    /// Help and version: for stdout, and no failure.
    Asked(String),
    /// One line for stderr.
    Wrong(String),
}

/// `args` as of `env::args_os`, with the name of the program first.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, NoCommand> {
    let err = match Cli::try_parse_from(args) {
        Ok(cli) => return Ok(cli.command),
        Err(err) => err,
    };
    let text = err.render().to_string();
    Err(match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => NoCommand::Asked(text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            NoCommand::Wrong("which command? See tarsier --help".to_owned())
        }
        _ => NoCommand::Wrong(one_line(&text)),
    })
}

/// The usage that clap adds is a flag away; what is wrong, and its tips, fit on a line.
fn one_line(text: &str) -> String {
    let said = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = said.collect::<Vec<_>>().join(" ").replace(" tip: ", "; tip: ");
    format!("{}; see tarsier --help", line.strip_prefix("error: ").unwrap_or(&line))
}

/// A reader that has seen enough, as in `tarsier ps | head`, is no error.
fn print(out: &mut impl Write, text: &[u8]) -> Result<(), CliError> {
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// An answer of the agent as it is, but for what a terminal would obey.
fn print_json(out: &mut impl Write, answer: &[u8]) -> Result<(), CliError> {
    print(out, (layout::printable_json(answer) + "\n").as_bytes())
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse_line(line: &str) -> Result<Command, NoCommand> {
        parse(line.split(' ').map(OsString::from))
    }

    fn wrong(line: &str) -> String {
        match parse_line(line).unwrap_err() {
            NoCommand::Wrong(text) => text,
            NoCommand::Asked(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_every_flag() {
        let line = "tarsier run --config /c --listen [::1]:1 --admin-socket /s --log-format journald --record /r \
                    --require btf --require totals";
        let Ok(Command::Run(args)) = parse_line(line) else {
            panic!("another command")
        };
        assert_eq!(args.file.path(), Some(Path::new("/c")));
        let overrides = Overrides {
            listen: Some("[::1]:1".parse().unwrap()),
            admin_socket: Some(PathBuf::from("/s")),
            log_format: Some(LogFormat::Journald),
        };
        assert_eq!(args.overrides(), overrides);
        assert_eq!(args.record, Some(PathBuf::from("/r")));
        assert_eq!(args.require, ["btf", "totals"]);

        let Ok(Command::Run(args)) = parse_line("tarsier run") else {
            panic!("another command")
        };
        assert_eq!(args.overrides(), Overrides::default());
    }

    #[test]
    fn the_other_commands_take_theirs() {
        assert!(matches!(parse_line("tarsier check --json --config /c"), Ok(Command::Check(args)) if args.json));
        assert!(
            matches!(parse_line("tarsier config --config /c --validate"), Ok(Command::Config(args)) if args.validate)
        );
        assert!(
            matches!(parse_line("tarsier sockets --source proc --json"), Ok(Command::Sockets(args)) if args.source == Source::Proc)
        );
        assert!(matches!(parse_line("tarsier sockets"), Ok(Command::Sockets(args)) if args.source == Source::Auto));
        assert!(matches!(parse_line("tarsier ps --json --admin-socket /s"), Ok(Command::Ps(args)) if args.json));
        assert!(
            matches!(parse_line("tarsier inspect /a --json --admin-socket /s"), Ok(Command::Inspect(args)) if args.id == "/a")
        );
        assert!(
            matches!(parse_line("tarsier explain 42 --json --admin-socket /s"), Ok(Command::Explain(args)) if args.subject == "42")
        );
        assert!(
            matches!(parse_line("tarsier events --follow --json --admin-socket /s"), Ok(Command::Events(args)) if args.json)
        );
        assert!(
            matches!(parse_line("tarsier tap /a --json --admin-socket /s"), Ok(Command::Tap(args)) if args.id == "/a")
        );
        assert!(
            matches!(parse_line("tarsier reload --json --admin-socket /s"), Ok(Command::Reload(args)) if args.json)
        );
        assert!(matches!(
            parse_line("tarsier programs --admin-socket /s"),
            Ok(Command::Programs(_))
        ));
        assert!(matches!(parse_line("tarsier replay /r"), Ok(Command::Replay(args)) if args.file == Path::new("/r")));
    }

    #[test]
    fn a_wrong_line_is_one_line() {
        assert_eq!(
            wrong("tarsier run --log-format loud"),
            "invalid value 'loud' for '--log-format <FORMAT>' [possible values: auto, term, json, journald]; \
             see tarsier --help"
        );
        assert_eq!(
            wrong("tarsier events"),
            "the following required arguments were not provided: --follow; see tarsier --help"
        );
        assert_eq!(
            wrong("tarsier inspect"),
            "the following required arguments were not provided: <ID>; see tarsier --help"
        );
        assert_eq!(
            wrong("tarsier ps --jsn"),
            "unexpected argument '--jsn' found; tip: a similar argument exists: '--json'; see tarsier --help"
        );
        assert_eq!(wrong("tarsier"), "which command? See tarsier --help");
        for line in ["tarsier nonsense", "tarsier run --listen here", "tarsier ps extra"] {
            let text = wrong(line);
            assert!(!text.contains('\n') && text.ends_with("; see tarsier --help"), "{text}");
        }
    }

    #[test]
    fn help_and_version_are_no_failure() {
        let version = format!("tarsier {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(parse_line("tarsier --version").unwrap_err(), NoCommand::Asked(version));
        assert!(matches!(parse_line("tarsier run --help"), Err(NoCommand::Asked(text)) if text.contains("--record")));
    }

    pub(in crate::cli) struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_error() {
        print(&mut Closed, b"more").unwrap();
        let full: &mut [u8] = &mut [0; 2];
        assert!(matches!(print(&mut &mut *full, b"more"), Err(CliError::Output(_))));
    }
}
