//! What an agent costs those it watches, and itself: `make bench`.
//!
//! Each load runs in rounds: without an agent, with Tarsier, with another one if there is one, in alternating order. Other
//! work on the machine moves every number, so only the ratios within a round mean something, and of those the median.
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `ROUNDS` | 5 | |
//! | `SECONDS` | 3 | of each measurement, roughly |
//! | `BENCH` | all | loads, by name |
//! | `BENCH_CONFIG` | | more of Tarsier's configuration, e.g. `l7: {kernel_lane: false}` |
//! | `BENCH_OTHER` | | the command line of another agent that stays in the foreground |
//! | `BENCH_OTHER_METRICS` | | where that one has its `/metrics`, e.g. `127.0.0.1:19400` |
//! | `BENCH_JSON` | | a file for every single measurement |
mod interrupt;
mod loads;
mod measure;
mod options;
mod programs;
mod report;
mod tools;
mod watcher;

use anyhow::{Result, bail, ensure};
use loads::containers::{MEMBER, be_member};
use options::Options;
use std::{
    env, fs,
    io::{self, Write as _},
    panic,
    process::ExitCode,
};
use tarsier_integration::has_tool;

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    if words.next().as_deref() == Some(MEMBER) {
        return exit_code(be_member(&words.next().unwrap_or_default()));
    }
    interrupt::catch();
    let say_panic = panic::take_hook();
    // Guards panic, and what an interrupt kills makes them.
    panic::set_hook(Box::new(move |panic| {
        if !interrupt::seen() {
            say_panic(panic);
        }
    }));
    let result = panic::catch_unwind(bench);
    if interrupt::seen() {
        say("interrupted; nothing is left behind");
        return ExitCode::from(130);
    }
    match result {
        Ok(result) => exit_code(result),
        Err(_said_by_the_hook) => ExitCode::FAILURE,
    }
}

fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    drop(writeln!(io::stderr(), "bench: {text}"));
}

fn bench() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "this needs root");
    let options = Options::read(|name| env::var(name).ok())?;
    allow_many_files()?;
    if !has_tool("bpftool") {
        say("bpftool is missing: no times of eBPF programs");
    }
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    for kind in &options.loads {
        if let Some(tool) = kind.missing() {
            say(&format!("{} is skipped: {tool} is missing", kind.name));
            continue;
        }
        match panic::catch_unwind(|| measure::all_rounds(kind, &options)) {
            Ok(Ok(result)) => results.push(result),
            _ if interrupt::seen() => bail!("interrupted"),
            Ok(Err(error)) => {
                say(&format!("{}: {error:#}", kind.name));
                failed.push(kind.name);
            }
            Err(_said_by_the_hook) => failed.push(kind.name),
        }
    }
    let machine = report::Machine::this();
    write!(io::stdout(), "\n{}", report::text(&machine, &options, &results))?;
    if let Some(path) = &options.json {
        fs::write(path, report::json(&machine, &options, &results)?)?;
        say(&format!("every measurement is in {}", path.display()));
    }
    ensure!(failed.is_empty(), "could not be measured: {}", failed.join(" "));
    Ok(())
}

/// Ten thousand connections, a thousand processes with two pipes each.
fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
