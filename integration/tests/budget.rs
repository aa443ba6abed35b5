//! What the programs that run at every send and receive may cost, in multiples of what a program that does nothing does.
use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};
use tarsier_integration::{Agent, Metrics, Statistics, require_root};

/// Of what they have nothing to do with, and of a request that is counted where it passes. (Of that 6.5 is the aim.)
const BUDGET: f64 = 3.0;
const MATCHED: f64 = 10.0;
const MESSAGES: u32 = 100_000;
/// Other work on the machine makes a program slower, none makes it faster.
const TRIES: u32 = 5;

/// Small messages from one end of a connection to the other.
fn talk() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (mut server, _) = listener.accept().expect("one is there");
    let mut byte = [7];
    for _ in 0..MESSAGES {
        client.write_all(&byte).expect("the other end is there");
        server.read_exact(&mut byte).expect("the other end is there");
    }
}

/// Requests and replies on one connection.
fn ask() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: budget\r\n\r\n";
    const REPLY: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (mut server, _) = listener.accept().expect("one is there");
    let (mut request, mut reply) = ([0; REQUEST.len()], [0; REPLY.len()]);
    for _ in 0..MESSAGES / 2 {
        client.write_all(REQUEST).expect("the other end is there");
        server.read_exact(&mut request).expect("the other end is there");
        server.write_all(REPLY).expect("the other end is there");
        client.read_exact(&mut reply).expect("the other end is there");
    }
}

/// Nanoseconds and runs.
fn spent(metrics: &Metrics, program: &str) -> (f64, f64) {
    let sum = |name: &str| metrics.sum(&format!("tarsier_bpf_program_{name}"), &[("program", program)]);
    (sum("run_seconds_total") * 1e9, sum("runs_total"))
}

#[test]
fn a_program_at_every_send_and_receive_keeps_its_budget() {
    if !require_root() {
        return;
    }
    let _statistics = Statistics::keep().expect("the kernel keeps statistics");
    let mut measured = 0;
    let reading = &["l7_sent", "l7_received"][..];
    let off = "l7: {dns: false, http: false, redis: false, postgres: false, memcached: false}\n";
    for (config, programs, talk, budget) in [
        ("", reading, talk as fn(), BUDGET),
        ("", reading, ask, MATCHED),
        (off, &["io_sent", "io_received"], talk, BUDGET),
        ("kernel: {socket_hook: receive}\n", &["io_consumed"], talk, BUDGET),
    ] {
        let agent = Agent::builder().config(config).start();
        // Anything else would be another hook of this kernel.
        if !programs
            .iter()
            .all(|program| agent.metrics_text().contains(&format!("program=\"{program}\"")))
        {
            continue;
        }
        let worst = (0..TRIES)
            .map(|_| measure(&agent, programs, talk))
            .fold(f64::INFINITY, f64::min);
        assert!(worst <= budget, "{programs:?} cost {worst:.2} times an empty program");
        measured += 1;
    }
    assert!(measured > 0, "none of them is there");
}

/// Of the dearest, in multiples of the empty one.
fn measure(agent: &Agent, programs: &[&str], talk: fn()) -> f64 {
    let all = |metrics: &Metrics| {
        programs
            .iter()
            .chain(&["empty"])
            .map(|program| spent(metrics, program))
            .collect::<Vec<_>>()
    };
    let before = all(&agent.metrics());
    talk();
    // The statistics are as of the last pass.
    let enough = |metrics: &Metrics| {
        all(metrics)
            .iter()
            .zip(&before)
            .all(|(now, before)| now.1 - before.1 >= f64::from(MESSAGES))
    };
    let after = all(&agent.metrics_when("tarsier_bpf_program_runs", Duration::from_secs(20), enough));
    let mut each: Vec<f64> = after
        .iter()
        .zip(&before)
        .map(|(now, before)| (now.0 - before.0) / (now.1 - before.1))
        .collect();
    let empty = each.pop().expect("the last one");
    each.into_iter().fold(0.0, f64::max) / empty
}
