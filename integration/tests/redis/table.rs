//! Ways to ask a Redis server, each with its own count.
use std::sync::LazyLock;
use tarsier_integration::{Case, Client, Statuses, node_module, statuses};

pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/redis/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn talk(client: &Client<'_>, way: &str, count: u64) -> Statuses {
    client.script(&script("talk.py"), &[way, &count.to_string()])
}

/// A client of node-redis.
pub(crate) static NODE: LazyLock<Option<String>> =
    LazyLock::new(|| node_module(&script("node"), env!("CARGO_TARGET_TMPDIR")));

pub(crate) fn node(client: &Client<'_>, way: &str, count: u64) -> Statuses {
    let program = NODE.as_deref().expect("looked for before");
    client.script(program, &[way, &count.to_string()])
}

/// Besides the tests it is told to run it asks for the configuration, twice.
pub(crate) fn benchmark(client: &Client<'_>, tests: &str, pipeline: u64, count: u64) -> Statuses {
    let (pipeline, number) = (pipeline.to_string(), count.to_string());
    let (ip, port) = (client.ip(), client.port());
    let arguments = [
        "-h", &ip, "-p", &port, "-c", "20", "-t", tests, "-P", &pipeline, "-n", &number, "--csv",
    ];
    let printed = client.output("redis-benchmark", &arguments, "");
    let done = printed
        .lines()
        .filter(|line| line.starts_with('"') && !line.starts_with("\"test\""));
    assert_eq!(done.count(), tests.split(',').count(), "{printed}");
    statuses(&[("ok", tests.split(',').count() as u64 * count + 2)])
}

fn cli(client: &Client<'_>, arguments: &[&str], input: &str) -> String {
    let (ip, port) = (client.ip(), client.port());
    client.output("redis-cli", &[&["-h", &ip, "-p", &port], arguments].concat(), input)
}

/// By arguments and by lines, old protocol and new.
fn command_line(client: &Client<'_>) -> Statuses {
    let printed = cli(client, &["-r", "30", "INCR", "command line"], "");
    assert_eq!(printed.lines().count(), 30, "{printed}");
    let script = "SET word x\nGET word\nLPUSH word x\nMULTI\nINCR number\nEXEC\nHGETALL nothing\n";
    // It asks for the documentation of all commands, and with -3 for a protocol.
    for arguments in [&[][..], &["-3"]] {
        let printed = cli(client, arguments, script);
        assert!(printed.contains("WRONGTYPE"), "{printed}");
    }
    statuses(&[("ok", 30 + 7 + 8), ("failed", 2)])
}

/// The commands come as they would on a wire, and one to know the end by.
fn mass(client: &Client<'_>) -> Statuses {
    let raw: String = (0..2000)
        .map(|number| format!("*3\r\n$3\r\nSET\r\n$8\r\nraw:{number:04}\r\n$1\r\nx\r\n"))
        .collect();
    let printed = cli(client, &["--pipe"], &raw);
    assert!(printed.contains("errors: 0, replies: 2000"), "{printed}");
    statuses(&[("ok", 2001)])
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "redis-benchmark",
        run: |client| benchmark(client, "set,get,incr,lpush,mset", 1, 2_000),
    },
    Case {
        name: "redis-benchmark -P 16",
        run: |client| benchmark(client, "set,get", 16, 16_000),
    },
    Case {
        name: "redis-benchmark -P 256",
        run: |client| benchmark(client, "set,get", 256, 25_600),
    },
    Case {
        name: "redis-cli",
        run: command_line,
    },
    Case {
        name: "redis-cli --pipe",
        run: mass,
    },
    Case {
        name: "redis-py",
        run: |client| client.script(&script("library.py"), &["40"]),
    },
    Case {
        name: "pieces",
        run: |client| talk(client, "pieces", 5),
    },
    Case {
        name: "first",
        run: |client| talk(client, "first", 10),
    },
    Case {
        name: "large",
        run: |client| talk(client, "large", 3),
    },
    Case {
        name: "pipeline",
        run: |client| talk(client, "pipeline", 10_000),
    },
    Case {
        name: "errors",
        run: |client| talk(client, "errors", 50),
    },
    Case {
        name: "transaction",
        run: |client| talk(client, "transaction", 20),
    },
    Case {
        name: "subscriptions",
        run: |client| talk(client, "subscriptions", 50),
    },
    Case {
        name: "pushes",
        run: |client| talk(client, "pushes", 50),
    },
    Case {
        name: "monitor",
        run: |client| talk(client, "monitor", 100),
    },
    Case {
        name: "inline",
        run: |client| talk(client, "inline", 20),
    },
];

/// By node-redis.
pub(crate) const BY_NODE: &[Case] = &[
    Case {
        name: "node-redis, each",
        run: |client| node(client, "each", 30),
    },
    Case {
        name: "node-redis, together",
        run: |client| node(client, "together", 1000),
    },
    Case {
        name: "node-redis, transactions",
        run: |client| node(client, "transactions", 20),
    },
    Case {
        name: "node-redis, large",
        run: |client| node(client, "large", 3),
    },
    Case {
        name: "node-redis, subscriptions",
        run: |client| node(client, "subscriptions", 30),
    },
    Case {
        name: "node-redis, defaults",
        run: |client| node(client, "defaults", 5),
    },
];
