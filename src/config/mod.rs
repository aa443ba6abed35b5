//! The configuration: defaults, the file, `TARSIER__SECTION__KEY` of the environment, flags; the later one wins.
//!
//! It is taken whole or refused whole, with one line that says where: file, line, column and key, or the variable, or
//! the flag.
// The layers below the flags.
mod environment;
mod file;
// Where in the file a key stands.
mod locate;
// What of it changes while the agent runs.
mod live;
mod reload;
// What the layers fill.
mod l7;
mod pattern;
mod sections;
mod size;
mod validate;

pub use l7::L7;
pub use live::{Live, Reloads};
pub use pattern::{Pattern, PatternError};
pub use reload::{LIVE, Reload};
pub use sections::{
    Admin, Agent, Conntrack, Containers, Filters, Fqdn, Gc, Host, Http, Identity, Kernel, Label, Log, LogLevel,
    Metrics, Network, Registry, RuntimeClient, Runtimes, SignalFilter, Signals, SocketHook, Standalone, Supervisor,
    TapDetail,
};
pub use size::{ByteSize, ByteSizeError};
pub use validate::Invalid;

use crate::base::logging::LogFormat;
use config::{FileFormat, builder::DefaultState};
use file::File;
use serde::{Deserialize, Serialize};
use std::{
    env,
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The systemd unit and the image put the file here.
pub const DEFAULT_FILE: &str = "/etc/tarsier/tarsier.yaml";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub http: Http,
    pub admin: Admin,
    pub agent: Agent,
    pub log: Log,
    pub host: Host,
    pub identity: Identity,
    pub runtimes: Runtimes,
    pub filters: Filters,
    pub metrics: Metrics,
    pub containers: Containers,
    pub network: Network,
    pub conntrack: Conntrack,
    pub fqdn: Fqdn,
    pub l7: L7,
    pub kernel: Kernel,
    pub registry: Registry,
    pub gc: Gc,
    pub supervisor: Supervisor,
}

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    pub listen: Option<SocketAddr>,
    pub admin_socket: Option<PathBuf>,
    pub log_format: Option<LogFormat>,
}

/// Each is one line once its sources are added with `: ` between, as `main` does.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}, column {column}: {message}", path.display())]
    File {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
    },
    #[error("environment variable {name}: {message}")]
    Variable { name: String, message: String },
    #[error("{flag}: {message}")]
    Flag { flag: &'static str, message: String },
}

/// Without `file`, [`DEFAULT_FILE`] is read if it is there; a file that is named must be.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigError> {
    let file = match file {
        Some(path) => Some(File::read(path)?),
        None => File::read_if_there(Path::new(DEFAULT_FILE))?,
    };
    merge(file.as_ref(), env::vars_os(), overrides)
}

type Builder = config::ConfigBuilder<DefaultState>;

fn merge(
    file: Option<&File>,
    environment: impl Iterator<Item = (OsString, OsString)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let base = file.map_or_else(|| Ok(Config::default()), File::parse)?;
    let json = serde_json::to_string(&base).expect("a config has no maps with odd keys");
    let base = Builder::default().add_source(config::File::from_str(&json, FileFormat::Json));

    let variables = environment::variables(environment)?;
    let mut layered = base.clone();
    for variable in &variables {
        let with = |builder: Builder| {
            builder
                .set_override(variable.path(), variable.layered())
                .map_err(|err| variable.explain(&err))
        };
        // Each alone first, so that the one that is wrong is the one that is named.
        let alone: Result<Config, _> = with(base.clone())?.build().and_then(|built| built.try_deserialize());
        alone.map_err(|err| variable.explain(&err))?;
        layered = with(layered)?;
    }

    let flags = flags(overrides)?;
    for (flag, key, value) in &flags {
        layered = layered
            .set_override(*key, value.as_str())
            .map_err(|err| ConfigError::Flag {
                flag,
                message: err.to_string(),
            })?;
    }

    let config: Config = layered
        .build()
        .and_then(|built| built.try_deserialize())
        .expect("every layer was taken alone, and none makes another one's type wrong");
    let Err(invalid) = config.validate() else {
        return Ok(config);
    };
    // The file alone was valid, and so are the defaults: it is a later layer, and the last one has the say.
    let concerned = |key: &str| invalid.keys.contains(&key);
    if let Some((flag, ..)) = flags.iter().rev().find(|(_, key, _)| concerned(key)) {
        return Err(ConfigError::Flag {
            flag,
            message: invalid.to_string(),
        });
    }
    let variable = variables.iter().find(|variable| concerned(&variable.path()));
    Err(variable
        .expect("only what a flag or a variable sets differs from a valid config")
        .error(&invalid))
}

/// A flag, its key and its value.
type Flag = (&'static str, &'static str, String);

fn flags(overrides: &Overrides) -> Result<Vec<Flag>, ConfigError> {
    let mut flags = Vec::new();
    if let Some(listen) = overrides.listen {
        flags.push(("--listen", "http.listen", listen.to_string()));
    }
    if let Some(socket) = &overrides.admin_socket {
        let Some(text) = socket.to_str() else {
            return Err(ConfigError::Flag {
                flag: "--admin-socket",
                message: format!("{} is not UTF-8", socket.display()),
            });
        };
        flags.push(("--admin-socket", "admin.socket", text.to_owned()));
    }
    if let Some(format) = overrides.log_format {
        flags.push(("--log-format", "log.format", format.as_str().to_owned()));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests;
