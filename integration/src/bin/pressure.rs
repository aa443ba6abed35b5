//! Load that goes on while the agent is stopped, broken or replaced, and that is told by lines what to do next.
//!
//! ```text
//! rate ADDR... --rate N [--parallel P]     N connects a second: each sends 16 bytes and reads until the other side ends.
//!                                          "to I": to the address of that index from now on; "pause"; "ask"
//! echo ADDR                                sends back what comes
//! held ADDR --count N                      N connections to an `echo`. "send B": B bytes on each, there and back
//! brief ADDR --count N --way WAY PATH...   N processes that live for two milliseconds and connect once, in those cgroups in
//!                                          turn. into: begin there (folders); move: begin here and move themselves (files
//!                                          named cgroup.procs); stay: are where this process is (no paths)
//! once ADDR                                what every second one of `brief` executes
//! ```
//! `rate`, `echo`, `held` and `brief` print `ready`; each line is answered by JSON, and they end with their standard input.
//! `brief` begins at its first line.
#![expect(unsafe_code, reason = "processes begin in a cgroup, and end without a word")]
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    env,
    fs::{self, File},
    io::{self, BufRead as _, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::Command,
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tarsier_integration::{Stopwatch, pause};

const REQUEST: [u8; 16] = [b'q'; 16];
const LIFE: Duration = Duration::from_millis(2);
/// libc's own is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (verb, words) = words.split_first().context("usage: pressure VERB ...")?;
    match verb.as_str() {
        "rate" => rate(words),
        "echo" => echo(address(words)?),
        "held" => held(words),
        "brief" => brief(words),
        "once" => once(address(words)?, Stopwatch::start()),
        other => bail!("no such verb: {other:?}"),
    }
}

fn address(words: &[String]) -> Result<SocketAddr> {
    let word = words.first().context("an address is missing")?;
    word.parse().with_context(|| format!("{word:?} is no address"))
}

fn option<T: std::str::FromStr>(words: &[String], name: &str) -> Option<T> {
    let at = words.iter().position(|word| word == name)?;
    words.get(at + 1)?.parse().ok()
}

/// Those before the options.
fn plain(words: &[String]) -> impl Iterator<Item = &String> {
    words.iter().take_while(|word| !word.starts_with("--"))
}

fn say(line: impl std::fmt::Display) -> Result<()> {
    writeln!(io::stdout(), "{line}")?;
    Ok(io::stdout().flush()?)
}

/// Answers each line until there are no more.
fn obey(mut answer: impl FnMut(&str) -> Result<Value>) -> Result<()> {
    say("ready")?;
    for line in io::stdin().lock().lines() {
        say(answer(&line?)?)?;
    }
    Ok(())
}

#[derive(Default)]
struct Count {
    connected: AtomicU64,
    failed: AtomicU64,
    /// Connected, and then not answered as it should have been.
    broken: AtomicU64,
}

fn rate(words: &[String]) -> Result<()> {
    let addresses: Vec<SocketAddr> = plain(words).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let parallel: u32 = option(words, "--parallel").unwrap_or(1);
    let rate: u32 = option(words, "--rate").context("--rate")?;
    let pace = Duration::from_secs(1) * parallel / rate;
    let counts: Vec<Count> = addresses.iter().map(|_| Count::default()).collect();
    // Held for the time of a connection: who changes it knows that none is under way.
    let target = RwLock::new(None);
    let over = AtomicBool::new(false);
    let report = || {
        let read =
            |of: fn(&Count) -> &AtomicU64| -> Vec<u64> { counts.iter().map(|count| of(count).load(Relaxed)).collect() };
        json!({ "connected": read(|count| &count.connected), "failed": read(|count| &count.failed),
            "broken": read(|count| &count.broken).iter().sum::<u64>() })
    };
    thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                let (watch, mut due) = (Stopwatch::start(), Duration::ZERO);
                while !over.load(Relaxed) {
                    due += pace;
                    let late = watch.elapsed().saturating_sub(due);
                    // A debt that cannot be paid would end in a burst.
                    if late > Duration::from_millis(100) {
                        due += late;
                    }
                    pause(due.saturating_sub(watch.elapsed()));
                    let target = target.read().expect("nothing panics while it holds the lock");
                    if let Some(index) = *target {
                        one(addresses[index], &counts[index]);
                    }
                }
            });
        }
        let result = obey(|line| {
            let next = match line.split_once(' ') {
                Some(("to", index)) => Some(Some(index.parse::<usize>()?).filter(|index| *index < counts.len())),
                _ if line == "pause" => Some(None),
                _ => None,
            };
            if let Some(next) = next {
                *target.write().expect("nothing panics while it holds the lock") = next;
            }
            Ok(report())
        });
        over.store(true, Relaxed);
        result
    })?;
    say(report())
}

fn one(address: SocketAddr, count: &Count) {
    match TcpStream::connect(address) {
        Err(_) => drop(count.failed.fetch_add(1, Relaxed)),
        Ok(stream) => {
            count.connected.fetch_add(1, Relaxed);
            if ask(stream).is_err() {
                count.broken.fetch_add(1, Relaxed);
            }
        }
    }
}

fn ask(mut stream: TcpStream) -> io::Result<u64> {
    stream.write_all(&REQUEST)?;
    io::copy(&mut stream, &mut io::sink())
}

fn echo(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    obey(|_| Ok(Value::Null))
}

fn held(words: &[String]) -> Result<()> {
    let (address, count) = (address(words)?, option(words, "--count").unwrap_or(1));
    let streams: Vec<TcpStream> = (0..count)
        .map(|_| TcpStream::connect(address))
        .collect::<Result<_, _>>()?;
    obey(|line| {
        let bytes: usize = line.strip_prefix("send ").context("what is that?")?.parse()?;
        let mut buffer = vec![b'h'; bytes];
        for mut stream in &streams {
            stream.write_all(&buffer)?;
            stream.read_exact(&mut buffer)?;
        }
        Ok(json!({ "sent": bytes * streams.len() }))
    })
}

fn once(address: SocketAddr, born: Stopwatch) -> Result<()> {
    let got = ask(TcpStream::connect(address)?)?;
    ensure!(got > 0, "no answer");
    pause(LIFE.saturating_sub(born.elapsed()));
    Ok(())
}

fn brief(words: &[String]) -> Result<()> {
    let address = address(words)?;
    let count: usize = option(words, "--count").context("--count")?;
    let way: String = option(words, "--way").context("--way")?;
    let paths: Vec<&String> = words.iter().filter(|word| word.contains("/cgroup")).collect();
    let folders: Vec<File> = match way.as_str() {
        "into" => paths.iter().map(File::open).collect::<Result<_, _>>()?,
        _ => Vec::new(),
    };
    say("ready")?;
    io::stdin().read_line(&mut String::new())?;
    for i in 0..count {
        let child = clone3(folders.get(i % paths.len().max(1)))?;
        if child == 0 {
            let born = Stopwatch::start();
            let door = (way == "move").then(|| paths[i % paths.len()]);
            let lived = door.map_or(Ok(()), |door| fs::write(door, "0").context("moving"));
            let lived = lived.and_then(|()| match i % 2 {
                0 => once(address, born),
                _ => Err(Command::new("/proc/self/exe")
                    .args(["once", &address.to_string()])
                    .exec()
                    .into()),
            });
            // SAFETY: ends without running anything of the parent's.
            unsafe { libc::_exit(i32::from(lived.is_err())) };
        }
        let mut status = 0;
        // SAFETY: the status is ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        ensure!(waited == child && status == 0, "a child ended with {status:#x}");
    }
    say(json!({ "connected": count }))
}

/// A child of this process, which has one thread: there it returns 0.
fn clone3(cgroup: Option<&File>) -> Result<i32> {
    // SAFETY: all of its fields are numbers, and zero means nothing special.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        how.flags = CLONE_INTO_CGROUP;
        how.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no memory is shared and no thread is left behind: like fork.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how)) };
    ensure!(child >= 0, "clone3: {}", io::Error::last_os_error());
    Ok(i32::try_from(child)?)
}
