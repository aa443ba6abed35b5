//! Moves a counted number of bytes by one kind of socket call and says as JSON what it did. Each side knows only its own
//! calls, so that either report is an oracle of its own.
//!
//! ```text
//! serve ADDR    accepts, and answers --send bytes for every --receive bytes until the peer ends
//! connect ADDR  --count connections; on each, for every line `round` of standard input, --send bytes out and then
//!               --receive bytes in. `more` only sends, `take` only receives; `end`
//!               waits for the end of each connection, whoever makes it, and closes it
//! adopt PATH    is given sockets at a Unix socket and serves them; with --count it asks as `connect` does
//! outside       what is no TCP: --send bytes through Unix sockets and UDP
//!
//! --by CALL       write writev send sendto sendmsg sendmmsg sendfile splice zerocopy uring-{send,async,write,zerocopy,poll}
//!                 ktls (only what is sent: what comes is read as it is, records and all)
//! --via KIND      tcp mptcp tfo tfo-connect uring
//! --half N        this side stops sending after its N-th round
//! --dup           every round by another descriptor
//! --keep          stays open after the peer's end
//! --hang-up N     `serve` closes instead of its answer after N rounds
//! --lazy          `serve` accepts nobody until it gets its first line
//! --abort         closing is a reset
//! --user-timeout MS   how long sent bytes may stay without an acknowledgement
//! --netns PATH    the socket is made in that network namespace and used in one's own
//! --pass PATH     gives every connection to `adopt PATH`
//! --fork DOORS    listens, and accepts in a child that has entered the control groups DOORS (`cgroup.procs`, by colons)
//! --exec DOORS    the same in another program, which inherits the listening socket
//! ```
//! Each prints `ready`, answers every line with its report so far, and at the end of standard input closes everything and
//! reports for the last time.
mod connection;
mod ktls;
mod mover;
mod raw;
mod sockets;
mod uring;

use anyhow::{Context as _, Result, bail, ensure};
use connection::{Connection, Done, Plan};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use sockets::Via;
use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    process::Command,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    thread,
};
use uring::Ring;

fn main() -> Result<()> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    match arguments.verb.as_str() {
        "serve" => serve(&arguments),
        "connect" => connect(&arguments),
        "adopt" => adopt(&arguments),
        "outside" => outside(&arguments),
        other => bail!("no such verb: {other:?}"),
    }
}

struct Arguments {
    verb: String,
    place: String,
    options: BTreeMap<String, String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let verb = words.next().context("usage: calls VERB ...")?;
        let (mut place, mut options) = (String::new(), BTreeMap::new());
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(flag @ ("dup" | "keep" | "abort" | "lazy")) => {
                    options.insert(flag.to_owned(), String::new());
                }
                Some(name) => {
                    let value = words.next().with_context(|| format!("{word} wants a value"))?;
                    options.insert(name.to_owned(), value);
                }
                None => place = word,
            }
        }
        Ok(Self { verb, place, options })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Result<Option<usize>> {
        let number = |text: &str| text.parse().with_context(|| format!("--{name} {text}"));
        self.text(name).map(number).transpose()
    }

    fn address(&self) -> Result<SocketAddr> {
        self.place
            .parse()
            .with_context(|| format!("{:?} is no address", self.place))
    }

    fn via(&self) -> Result<Via> {
        Via::parse(self.text("via").unwrap_or("tcp"))
    }

    fn plan(&self) -> Result<Plan> {
        Ok(Plan {
            by: self.text("by").unwrap_or("write").to_owned(),
            send: self.number("send")?.unwrap_or(0),
            receive: self.number("receive")?.unwrap_or(0),
            dup: self.text("dup").is_some(),
            half: self.number("half")?,
            keep: self.text("keep").is_some(),
            hang_up: self.number("hang-up")?,
            abort: self.text("abort").is_some(),
            user_timeout_ms: self.number("user-timeout")?,
        })
    }
}

fn say(line: &impl ToString) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", line.to_string())?;
    Ok(out.flush()?)
}

/// Until the end of standard input.
fn commands(done: &Done, mut run: impl FnMut(&str) -> Result<()>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        run(&line?)?;
        say(&done.report())?;
    }
    Ok(())
}

fn serve(arguments: &Arguments) -> Result<()> {
    let listener = match arguments.number("inherited")? {
        Some(descriptor) => raw::received(descriptor as i32),
        None => sockets::inside(arguments.text("netns"), || {
            arguments.via()?.listen(arguments.address()?)
        })?,
    };
    if let Some(doors) = arguments.text("fork").or(arguments.text("exec")) {
        if let Some(child) = raw::fork()? {
            let (_, status) = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?
                .context("a child that was waited for")?;
            ensure!(status.exit_status() == Some(0), "the child ended with {status:?}");
            return Ok(());
        }
        for door in doors.split(':') {
            fs::write(door, "0").with_context(|| format!("entering {door}"))?;
        }
        if arguments.text("exec").is_some() {
            return become_heir(listener);
        }
    }
    let channel = arguments.text("pass").map(UnixStream::connect).transpose()?;
    let lazy = arguments.text("lazy").is_some();
    if lazy {
        say(&"ready")?;
        if io::stdin().lock().lines().next().transpose()?.is_none() {
            return say(&Done::default().report());
        }
    }
    let mut ring = (arguments.via()? == Via::Ring).then(Ring::for_sockets).transpose()?;
    // The first line of a lazy one is answered as any other.
    let begun = if lazy {
        Done::default().report().to_string()
    } else {
        "ready".to_owned()
    };
    answer_each(arguments.plan()?, &begun, move |done| {
        let socket = match &mut ring {
            Some(ring) => ring.accept(listener.as_fd())?,
            None => rustix::net::acceptfrom_with(&listener, rustix::net::SocketFlags::CLOEXEC)?.0,
        };
        done.accepted.fetch_add(1, Relaxed);
        match &channel {
            Some(channel) => sockets::give(channel, socket.as_fd()).map(|()| None),
            None => Ok(Some(socket)),
        }
    })
}

/// This program once more, with the listening socket and the same arguments but for `--exec`.
fn become_heir(listener: OwnedFd) -> Result<()> {
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())?;
    let mut words: Vec<_> = env::args().skip(1).collect();
    let option = words.iter().position(|word| word == "--exec").context("no --exec")?;
    words.splice(
        option..option + 2,
        ["--inherited".to_owned(), listener.as_raw_fd().to_string()],
    );
    let error = Command::new(env::current_exe()?).args(words).exec();
    Err(error).context("executing the heir")
}

/// A thread for each socket that `next` gives, until the end of standard input.
fn answer_each(
    plan: Plan,
    begun: &str,
    mut next: impl FnMut(&Done) -> Result<Option<OwnedFd>> + Send + 'static,
) -> Result<()> {
    let (done, kept) = (Arc::new(Done::default()), Arc::new(Mutex::new(Vec::new())));
    let for_accepting = Arc::clone(&done);
    thread::spawn(move || {
        loop {
            let socket = match next(&for_accepting) {
                Ok(Some(socket)) => socket,
                Ok(None) => continue,
                Err(error) => return complain(&error),
            };
            let (plan, done, kept) = (plan.clone(), Arc::clone(&for_accepting), Arc::clone(&kept));
            thread::spawn(
                move || match Connection::new((socket, 0), &plan, &done).and_then(Connection::answer) {
                    Ok(socket) => kept
                        .lock()
                        .expect("nothing panics while it holds the lock")
                        .extend(socket),
                    Err(error) => complain(&error),
                },
            );
        }
    });
    say(&begun)?;
    commands(&done, |_| Ok(()))?;
    say(&done.report())
}

/// The reports show what is missing; this says why.
fn complain(error: &anyhow::Error) {
    drop(writeln!(io::stderr(), "calls: {error:#}"));
}

fn connect(arguments: &Arguments) -> Result<()> {
    let (via, plan, address) = (arguments.via()?, arguments.plan()?, arguments.address()?);
    let channel = arguments.text("pass").map(UnixStream::connect).transpose()?;
    let early = if channel.is_some() { 0 } else { plan.send };
    let open = |done: &Done| {
        let opened = sockets::inside(arguments.text("netns"), || via.connect(address, early))?;
        done.connected.fetch_add(1, Relaxed);
        Ok(opened)
    };
    let Some(channel) = channel else {
        return ask_each(arguments, open);
    };
    let done = Done::default();
    let count = arguments.number("count")?.unwrap_or(1);
    say(&"ready")?;
    commands(&done, |_| {
        for _ in 0..count {
            sockets::give(&channel, open(&done)?.0.as_fd())?;
        }
        Ok(())
    })?;
    say(&done.report())
}

fn ask_each(arguments: &Arguments, open: impl Fn(&Done) -> Result<(OwnedFd, usize)>) -> Result<()> {
    let (plan, count) = (arguments.plan()?, arguments.number("count")?.unwrap_or(1));
    let (done, mut connections) = (Done::default(), Vec::new());
    say(&"ready")?;
    commands(&done, |line| {
        if line == "end" {
            return connections.drain(..).try_for_each(Connection::end);
        }
        while connections.len() < count {
            connections.push(Connection::new(open(&done)?, &plan, &done)?);
        }
        for connection in &mut connections {
            match line {
                "round" => connection.ask()?,
                "more" => connection.send()?,
                "take" => connection.take()?,
                other => bail!("no such command: {other:?}"),
            }
        }
        Ok(())
    })?;
    connections.iter().for_each(Connection::count_end);
    drop(connections);
    say(&done.report())
}

fn adopt(arguments: &Arguments) -> Result<()> {
    let listener = UnixListener::bind(&arguments.place)?;
    if arguments.number("count")?.is_some() {
        let channel = Mutex::new(None);
        return ask_each(arguments, |_| {
            let mut channel = channel.lock().expect("nothing panics while it holds the lock");
            if channel.is_none() {
                *channel = Some(listener.accept()?.0);
            }
            let channel = channel.as_ref().expect("set above");
            Ok((sockets::take(channel)?.context("nobody gives any more")?, 0))
        });
    }
    let mut channel = None;
    answer_each(arguments.plan()?, "ready", move |_| {
        if channel.is_none() {
            channel = Some(listener.accept()?.0);
        }
        let channel = channel.as_ref().expect("set above");
        sockets::take(channel)?.context("nobody gives any more").map(Some)
    })
}

fn outside(arguments: &Arguments) -> Result<()> {
    let bytes = arguments.number("send")?.unwrap_or(0);
    let done = Done::default();
    let (mut one, mut other) = UnixStream::pair()?;
    let receivers = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("[::1]:0")?];
    say(&"ready")?;
    commands(&done, |_| {
        let mut buffer = vec![b'u'; bytes];
        let count = |received: usize| {
            done.sent.fetch_add(bytes, Relaxed);
            done.received.fetch_add(received, Relaxed);
        };
        one.write_all(&buffer)?;
        other.read_exact(&mut buffer)?;
        count(bytes);
        for receiver in &receivers {
            let address = receiver.local_addr()?;
            let sender = UdpSocket::bind((address.ip(), 0))?;
            sender.send_to(&buffer, address)?;
            count(receiver.recv(&mut buffer)?);
            // With an address of its own a socket of UDP has states, too.
            sender.connect(address)?;
            sender.send(&buffer)?;
            count(receiver.recv(&mut buffer)?);
        }
        Ok(())
    })?;
    say(&done.report())
}
