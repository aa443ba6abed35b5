//! Ways to ask a Memcached server, each with its own count.
use tarsier_integration::{Case, Client, Statuses, statuses};

pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/memcached/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn talk(client: &Client<'_>, way: &str, count: u64) -> Statuses {
    client.script(&script("talk.py"), &[way, &count.to_string()])
}

fn library(client: &Client<'_>, library: &str, count: u64) -> Statuses {
    client.script(&script("library.py"), &[library, &count.to_string()])
}

const THREADS: u64 = 5;

/// Of libmemcached. It prints how many keys it has set, and got.
fn slap(client: &Client<'_>, arguments: &[&str]) -> Statuses {
    let (ip, port, threads) = (client.ip(), client.port(), THREADS.to_string());
    let host = if client.address.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip
    };
    let server = format!("--servers={host}:{port}");
    let common = ["--concurrency", &threads, "--execute-number", "200", &server];
    let printed = client.output("memcslap", &[&common[..], arguments].concat(), "");
    let keys = printed.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("Time to set")
            .or_else(|| line.strip_prefix("Time to get"))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    let keys: u64 = keys.sum();
    assert!(keys >= THREADS * 200, "{printed}");
    statuses(&[("ok", keys)])
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "pymemcache",
        run: |client| library(client, "pymemcache", 20),
    },
    Case {
        name: "python-memcached",
        run: |client| library(client, "memcache", 20),
    },
    Case {
        name: "memcslap",
        run: |client| slap(client, &["--test=set"]),
    },
    Case {
        name: "memcslap, get",
        run: |client| slap(client, &["--test=get"]),
    },
    Case {
        name: "memcslap --binary",
        run: |client| slap(client, &["--test=set", "--binary"]),
    },
    Case {
        name: "text",
        run: |client| talk(client, "text", 20),
    },
    Case {
        name: "keyless",
        run: |client| talk(client, "keyless", 5),
    },
    Case {
        name: "errors",
        run: |client| talk(client, "errors", 3),
    },
    Case {
        name: "pieces",
        run: |client| talk(client, "pieces", 5),
    },
    Case {
        name: "pipeline",
        run: |client| talk(client, "pipeline", 2000),
    },
    Case {
        name: "large",
        run: |client| talk(client, "large", 3),
    },
    Case {
        name: "meta",
        run: |client| talk(client, "meta", 20),
    },
    Case {
        name: "binary",
        run: |client| talk(client, "binary", 20),
    },
];
