//! The program that the tests watch: it does a counted amount of one thing and says as JSON what it did.
//!
//! ```text
//! serve ADDR... [--read N] [--answer M] [--keep]     reads N bytes of each connection, answers M, closes it (or keeps it)
//! backlog ADDR --accept K --read N --answer M [--close]   listens; at the first line it is given accepts and answers K
//!                                                    connections, and then listens no more
//! connect ADDR --count N [--send B] [--receive B] [--parallel P]
//! steady ADDR --every MS [--count N]                 connects each MS milliseconds, N times at most
//! hold ADDR --count N [--send B]                     opens N at once and keeps them
//! abandon ADDR --count N                             gives up before an answer comes
//! timeout ADDR --count N                             waits until the kernel gives up
//! retry FIRST SECOND --count N                       FIRST is refused, then SECOND, with the same socket
//! unspec FIRST SECOND --count N                      FIRST, AF_UNSPEC, then SECOND, with the same socket
//! storm --count N [--kind exec|fork|thread]          N short-lived children
//! datagrams ADDR --count N                           one to each of N pairs of ports, whatever the port of ADDR
//! obey ADDR PIPE                                     listens, and connects as each line of the named pipe says, `ADDR COUNT`;
//!                                                    what came of it goes into PIPE.said
//! idle                                               only lives
//! ```
//! With `--wait` each first prints `ready` and waits for the end of its standard input.
//! `serve`, `backlog`, `steady`, `hold` and `idle` print `ready` and end when their standard input does, so none outlives its test.
//! `obey` says it into that file, and does not end: it is for machines that end with their test.
use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketType},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

fn main() -> Result<()> {
    let arguments = Arguments::parse(env::args().skip(1))?;
    if arguments.options.contains_key("wait") {
        say_ready()?;
        wait_for_end()?;
    }
    match arguments.verb.as_str() {
        "serve" => serve(&arguments),
        "backlog" => backlog(&arguments),
        "connect" => say(&connect(&arguments)?),
        "steady" => steady(&arguments),
        "hold" => hold(&arguments),
        "abandon" => say(&abandon(&arguments)?),
        "timeout" => say(&timeout(&arguments)?),
        "retry" => say(&retry(&arguments)?),
        "unspec" => say(&unspec(&arguments)?),
        "storm" => say(&storm(&arguments)?),
        "datagrams" => say(&datagrams(&arguments)?),
        "obey" => obey(&arguments),
        "idle" => {
            say_ready()?;
            wait_for_end()
        }
        other => bail!("no such verb: {other:?}"),
    }
}

struct Arguments {
    verb: String,
    addresses: Vec<SocketAddr>,
    pipe: Option<String>,
    options: BTreeMap<String, String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let verb = words.next().context("usage: workload VERB ...")?;
        let (mut addresses, mut pipe, mut options) = (Vec::new(), None, BTreeMap::new());
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(flag @ ("keep" | "wait" | "close")) => drop(options.insert(flag.to_owned(), String::new())),
                Some(name) => {
                    let value = words.next().with_context(|| format!("{word} wants a value"))?;
                    options.insert(name.to_owned(), value);
                }
                None if word.starts_with('/') => pipe = Some(word),
                None => addresses.push(word.parse().with_context(|| format!("{word:?} is no address"))?),
            }
        }
        Ok(Self {
            verb,
            addresses,
            pipe,
            options,
        })
    }

    fn number(&self, name: &str, otherwise: usize) -> Result<usize> {
        match self.options.get(name) {
            Some(text) => text.parse().with_context(|| format!("--{name} {text}")),
            None => Ok(otherwise),
        }
    }

    fn address(&self, index: usize) -> Result<SocketAddr> {
        self.addresses.get(index).copied().context("an address is missing")
    }
}

/// What came of a number of connects.
#[derive(Default)]
struct Outcome {
    connected: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Outcome {
    fn failed(&self, error: &io::Error) {
        let mut errors = self.errors.lock().expect("nothing panics while it holds the lock");
        *errors.entry(format!("{:?}", error.kind())).or_default() += 1;
    }

    fn report(&self) -> Value {
        let errors = &*self.errors.lock().expect("nothing panics while it holds the lock");
        json!({
            "connected": self.connected.load(Relaxed), "failed": errors.values().sum::<u64>(), "errors": errors,
            "sent": self.sent.load(Relaxed), "received": self.received.load(Relaxed),
        })
    }
}

fn say(report: &Value) -> Result<()> {
    Ok(writeln!(io::stdout(), "{report}")?)
}

fn say_ready() -> Result<()> {
    writeln!(io::stdout(), "ready")?;
    Ok(io::stdout().flush()?)
}

fn wait_for_end() -> Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn serve(arguments: &Arguments) -> Result<()> {
    let (read, answer) = (arguments.number("read", 0)?, arguments.number("answer", 0)?);
    let keep = arguments.options.contains_key("keep");
    let outcome = Arc::new(Outcome::default());
    let kept = Arc::new(Mutex::new(Vec::new()));
    for address in &arguments.addresses {
        let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        let (outcome, kept) = (Arc::clone(&outcome), Arc::clone(&kept));
        thread::spawn(move || {
            for stream in listener.incoming() {
                match stream.and_then(|stream| answer_one(stream, read, answer, &outcome)) {
                    Ok(stream) if keep => kept
                        .lock()
                        .expect("nothing panics while it holds the lock")
                        .push(stream),
                    // Closed here first: TIME_WAIT stays on this side and the client never runs out of ports.
                    Ok(stream) => drop(stream),
                    Err(error) => outcome.failed(&error),
                }
            }
        });
    }
    say_ready()?;
    wait_for_end()?;
    say(&outcome.report())
}

fn answer_one(mut stream: TcpStream, read: usize, answer: usize, outcome: &Outcome) -> io::Result<TcpStream> {
    outcome.connected.fetch_add(1, Relaxed);
    let mut rest = read;
    let mut buffer = vec![0; rest.clamp(1, 1 << 16)];
    while rest > 0 {
        let part = rest.min(buffer.len());
        match stream.read(&mut buffer[..part])? {
            0 => break,
            got => rest -= got,
        }
    }
    outcome.received.fetch_add((read - rest) as u64, Relaxed);
    stream.write_all(&vec![b'a'; answer])?;
    outcome.sent.fetch_add(answer as u64, Relaxed);
    Ok(stream)
}

fn backlog(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind(arguments.address(0)?)?;
    say_ready()?;
    io::stdin().read_line(&mut String::new())?;
    let (read, answer) = (arguments.number("read", 0)?, arguments.number("answer", 0)?);
    let outcome = Outcome::default();
    let mut kept = Vec::new();
    for _ in 0..arguments.number("accept", 1)? {
        kept.push(answer_one(listener.accept()?.0, read, answer, &outcome)?);
    }
    let _listener = (!arguments.options.contains_key("close")).then_some(listener);
    if arguments.options.contains_key("close") {
        say_ready()?;
    }
    wait_for_end()?;
    say(&outcome.report())
}

fn connect(arguments: &Arguments) -> Result<Value> {
    let address = arguments.address(0)?;
    let (count, send) = (arguments.number("count", 1)?, arguments.number("send", 0)?);
    let (receive, parallel) = (arguments.number("receive", 0)?, arguments.number("parallel", 1)?.max(1));
    let outcome = Outcome::default();
    let left = AtomicU64::new(count as u64);
    thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    match TcpStream::connect(address) {
                        Ok(stream) => {
                            outcome.connected.fetch_add(1, Relaxed);
                            if let Err(error) = exchange(stream, send, receive, &outcome) {
                                outcome.failed(&error);
                            }
                        }
                        Err(error) => outcome.failed(&error),
                    }
                }
            });
        }
    });
    Ok(outcome.report())
}

/// Sends and receives at the same time, so that neither side's buffers can block both.
fn exchange(stream: TcpStream, send: usize, receive: usize, outcome: &Outcome) -> io::Result<()> {
    let mut reader = &stream;
    let mut writer = &stream;
    let got = if send > 1 << 16 {
        thread::scope(|scope| {
            let writing = scope.spawn(move || writer.write_all(&vec![b'q'; send]));
            let got = io::copy(&mut reader, &mut io::sink());
            writing.join().expect("a write does not panic").and(got)
        })?
    } else {
        writer.write_all(&vec![b'q'; send])?;
        io::copy(&mut reader, &mut io::sink())?
    };
    outcome.sent.fetch_add(send as u64, Relaxed);
    outcome.received.fetch_add(got, Relaxed);
    if got == receive as u64 {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn obey(arguments: &Arguments) -> Result<()> {
    let pipe = arguments.pipe.as_deref().context("the path of a pipe is missing")?;
    let mut said = File::create(format!("{pipe}.said"))?;
    let listener = TcpListener::bind(arguments.address(0)?)?;
    thread::spawn(move || listener.incoming().for_each(drop));
    writeln!(said, "ready")?;
    // Opened for writing too, it has no end when whoever gave an order has gone.
    let orders = OpenOptions::new().read(true).write(true).open(pipe)?;
    for order in BufReader::new(orders).lines() {
        let order = order?;
        let (address, count) = order
            .split_once(' ')
            .with_context(|| format!("{order:?} is no order"))?;
        let words = ["connect", address, "--count", count].map(str::to_owned);
        writeln!(said, "{}", connect(&Arguments::parse(words.into_iter())?)?)?;
    }
    Ok(())
}

fn steady(arguments: &Arguments) -> Result<()> {
    let (address, count) = (arguments.address(0)?, arguments.number("count", usize::MAX)?);
    let every = Duration::from_millis(arguments.number("every", 100)? as u64);
    let outcome = Outcome::default();
    let (end, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        // Whatever becomes of the input, it is over then.
        drop(wait_for_end());
        drop(end);
    });
    say_ready()?;
    for _ in 0..count {
        if !matches!(ended.recv_timeout(every), Err(RecvTimeoutError::Timeout)) {
            return say(&outcome.report());
        }
        match TcpStream::connect(address) {
            Ok(stream) => {
                outcome.connected.fetch_add(1, Relaxed);
                if let Err(error) = exchange(stream, 0, 0, &outcome) {
                    outcome.failed(&error);
                }
            }
            Err(error) => outcome.failed(&error),
        }
    }
    for () in ended {}
    say(&outcome.report())
}

fn hold(arguments: &Arguments) -> Result<()> {
    let address = arguments.address(0)?;
    let send = arguments.number("send", 0)?;
    let mut streams = Vec::new();
    for _ in 0..arguments.number("count", 1)? {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&vec![b'q'; send])?;
        streams.push(stream);
    }
    say_ready()?;
    wait_for_end()?;
    say(&json!({ "connected": streams.len(), "sent": streams.len() * send }))
}

fn abandon(arguments: &Arguments) -> Result<Value> {
    let address = arguments.address(0)?;
    let outcome = Outcome::default();
    for _ in 0..arguments.number("count", 1)? {
        match TcpStream::connect_timeout(&address, Duration::from_millis(2)) {
            Ok(_) => drop(outcome.connected.fetch_add(1, Relaxed)),
            Err(error) => outcome.failed(&error),
        }
    }
    Ok(outcome.report())
}

fn timeout(arguments: &Arguments) -> Result<Value> {
    let address = arguments.address(0)?;
    let outcome = Outcome::default();
    let count = arguments.number("count", 1)?;
    // One at a time would take seconds each.
    thread::scope(|scope| -> Result<()> {
        for _ in 0..count {
            let socket = stream_socket(address)?;
            rustix::net::sockopt::set_tcp_user_timeout(&socket, 500)?;
            let outcome = &outcome;
            scope.spawn(move || match rustix::net::connect(&socket, &address) {
                Ok(()) => drop(outcome.connected.fetch_add(1, Relaxed)),
                Err(error) => outcome.failed(&error.into()),
            });
        }
        Ok(())
    })?;
    Ok(outcome.report())
}

fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    Ok(rustix::net::socket(family, SocketType::STREAM, None)?)
}

fn retry(arguments: &Arguments) -> Result<Value> {
    let (first, second) = (arguments.address(0)?, arguments.address(1)?);
    let outcome = Outcome::default();
    for _ in 0..arguments.number("count", 1)? {
        let socket = stream_socket(first)?;
        match rustix::net::connect(&socket, &first) {
            Ok(()) => bail!("{first} was to refuse"),
            Err(error) => outcome.failed(&error.into()),
        }
        rustix::net::connect(&socket, &second)?;
        outcome.connected.fetch_add(1, Relaxed);
    }
    Ok(outcome.report())
}

fn unspec(arguments: &Arguments) -> Result<Value> {
    let outcome = Outcome::default();
    for _ in 0..arguments.number("count", 1)? {
        let socket = stream_socket(arguments.address(0)?)?;
        for (index, address) in arguments.addresses.iter().enumerate() {
            if index > 0 {
                rustix::net::connect_unspec(&socket)?;
            }
            rustix::net::connect(&socket, address)?;
            outcome.connected.fetch_add(1, Relaxed);
        }
    }
    Ok(outcome.report())
}

fn datagrams(arguments: &Arguments) -> Result<Value> {
    const OF_ONE_SOCKET: usize = 60_000;
    let (to, count) = (arguments.address(0)?.ip(), arguments.number("count", 1)?);
    let mut sockets = Vec::new();
    for number in 0..count {
        if number % OF_ONE_SOCKET == 0 {
            sockets.push(UdpSocket::bind("0.0.0.0:0")?);
        }
        let socket = sockets.last().context("the first makes one")?;
        socket.send_to(b"x", (to, 1 + (number % OF_ONE_SOCKET) as u16))?;
    }
    Ok(json!({ "sent": count }))
}

fn storm(arguments: &Arguments) -> Result<Value> {
    let count = arguments.number("count", 1)?;
    let kind = arguments.options.get("kind").map_or("exec", String::as_str);
    for _ in 0..count {
        match kind {
            "exec" => {
                let status = Command::new("/bin/true")
                    .stdin(Stdio::null())
                    .status()
                    .context("running /bin/true")?;
                ensure!(status.success(), "/bin/true: {status}");
            }
            "fork" => fork_one()?,
            "thread" => thread::spawn(|| {}).join().expect("it does nothing"),
            other => bail!("no such kind: {other:?}"),
        }
    }
    Ok(json!({ "started": count }))
}

fn fork_one() -> Result<()> {
    #![expect(unsafe_code, reason = "a child without exec")]
    // SAFETY: this process has one thread here, and the child does nothing but end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    let child = rustix::process::Pid::from_raw(child).with_context(io::Error::last_os_error)?;
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
    Ok(())
}
