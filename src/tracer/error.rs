//! Why the kernel side does not work, as an error, as a word for the feature table, and as a line for people.
use super::btf::BtfError;
use aya::{EbpfError, maps::MapError, programs::ProgramError};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("this binary was built without its eBPF programs: run `make setup`, then `make build`")]
    NoObject,
    #[error("cannot resolve kernel structures")]
    Offsets(#[from] BtfError),
    #[error("cannot read the kernel's BTF")]
    Btf(#[from] aya::BtfError),
    #[error("cannot load the object")]
    Load(#[from] EbpfError),
    #[error("the object has no map {name}")]
    NoMap { name: &'static str },
    #[error("map {name}")]
    Map { name: &'static str, source: MapError },
    #[error("the object has no program {name}")]
    NoProgram { name: &'static str },
    #[error("program {name}")]
    Program { name: &'static str, source: ProgramError },
    #[error("no cgroup2 hierarchy is mounted")]
    NoCgroup2,
    #[error("{op}")]
    Io { op: &'static str, source: io::Error },
}

impl KernelError {
    /// The kernel has no function of that name to attach to.
    pub(super) fn is_no_function(&self) -> bool {
        let Self::Program { source, .. } = self else {
            return false;
        };
        matches!(source, ProgramError::Btf(aya::BtfError::UnknownBtfTypeName { .. }))
    }

    /// The word for the feature table.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NoObject => "not_built_in",
            Self::Offsets(BtfError::Read { .. }) => "no_btf",
            Self::Offsets(_) | Self::Btf(_) => "bad_btf",
            Self::NoCgroup2 => "no_cgroup2",
            Self::Load(error) => reason_of(io_error(error)),
            Self::Program { source, .. } => match source {
                // The verifier refuses with EACCES, whoever may not load with EPERM.
                ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EPERM) => {
                    "no_permission"
                }
                ProgramError::LoadError { .. } => "verifier_rejected",
                other => reason_of(io_error(other)),
            },
            Self::Io { source, .. } => reason_of(Some(source)),
            Self::NoMap { .. } | Self::Map { .. } | Self::NoProgram { .. } => "bad_object",
        }
    }
}

fn reason_of(error: Option<&io::Error>) -> &'static str {
    match error {
        Some(error) if is_permission(error) => "no_permission",
        _ => "unsupported",
    }
}

fn is_permission(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut error = Some(error);
    while let Some(inner) = error {
        if let Some(io) = inner.downcast_ref() {
            return Some(io);
        }
        error = inner.source();
    }
    None
}

/// What an operator may do about it, and what the kernel said.
pub(super) fn hint(error: &KernelError) -> String {
    let said = explain(error);
    if error.reason() != "no_permission" {
        return said;
    }
    let missing = missing_capabilities();
    if missing.is_empty() {
        return format!("no capability is missing: a security module, lockdown or seccomp refuses ({said})");
    }
    format!("give the agent {} ({said})", missing.join(", "))
}

/// Of those that loading and attaching needs.
fn missing_capabilities() -> Vec<&'static str> {
    use rustix::thread::{CapabilitySet, capabilities};
    let Ok(sets) = capabilities(None) else {
        return Vec::new();
    };
    // The one of old, which stands for all of them.
    let admin = sets.effective.contains(CapabilitySet::SYS_ADMIN);
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF", admin),
        (CapabilitySet::PERFMON, "CAP_PERFMON", admin),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN", admin),
    ];
    let missing = needed
        .iter()
        .filter(|(set, _, otherwise)| !otherwise && !sets.effective.contains(*set));
    missing.map(|(_, name, _)| *name).collect()
}

/// With these the verifier ends its log, whatever it found.
const SUMMARY: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// The whole chain in one line; of a verifier's log, which may be megabytes, the line that says it.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        let line = said
            .lines()
            .rfind(|line| line.len() > 3 && !SUMMARY.iter().any(|start| line.starts_with(start)))
            .unwrap_or("");
        let first = said.lines().next().unwrap_or("");
        let said = if first == line {
            first.to_owned()
        } else {
            format!("{first} … {line}")
        };
        if !text.contains(&said) {
            text = if text.is_empty() {
                said
            } else {
                format!("{text}: {said}")
            };
        }
        next = error.source();
    }
    text.chars().take(300).collect()
}
