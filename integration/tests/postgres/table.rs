//! Ways to ask a PostgreSQL server, each with its own count.
use std::{fs, sync::LazyLock};
use tarsier_integration::{Case, Client, Postgres, Statuses, go_module, statuses};

pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/postgres/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn speak(client: &Client<'_>, way: &str, count: u64) -> Statuses {
    client.script(&script("speak.py"), &[way, &count.to_string()])
}

fn run(client: &Client<'_>, program: &str, arguments: &[&str], input: &str) -> String {
    let programs = Postgres::find().unwrap();
    let (ip, port) = (client.ip(), client.port());
    let who = ["-h", &ip, "-p", &port, "-U", "tester"];
    client.output(
        &programs.path(program),
        &[&who[..], arguments, &["postgres"]].concat(),
        input,
    )
}

/// A client of Go's drivers.
pub(crate) static DRIVER: LazyLock<Option<String>> =
    LazyLock::new(|| go_module(&script("driver"), env!("CARGO_TARGET_TMPDIR")));

pub(crate) fn drive(client: &Client<'_>, way: &str, count: u64) -> Statuses {
    let program = DRIVER.as_deref().unwrap();
    client.script(program, &[way, &count.to_string()])
}

/// Its own count of transactions.
pub(crate) fn pgbench(client: &Client<'_>, arguments: &[&str]) -> u64 {
    let printed = run(client, "pgbench", &[&["-n"], arguments].concat(), "");
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let number = line.and_then(|line| line.split('/').next()?.trim().parse().ok());
    assert!(
        printed.contains("number of failed transactions: 0 "),
        "pgbench {arguments:?}: {printed}"
    );
    number.unwrap()
}

/// Of its own scripts it looks first at how large the tables are, and how they are divided.
pub(crate) const LOOKS: u64 = 2;

/// `each`: requests of a transaction. `once`: those of each of its four connections.
fn bench(client: &Client<'_>, arguments: &[&str], each: u64, once: u64) -> Statuses {
    let transactions = pgbench(client, &[arguments, &["-c", "4"]].concat());
    statuses(&[("ok", transactions * each + 4 * once + LOOKS)])
}

const SCRIPT: &str = "\
select 1;
select 1\\; select 2\\; select 3;
select 1 / 0;
selec nonsense;
select 1\\; select 1 / 0\\; select 2;
create temp table copied (a int, b text);
copy copied from stdin;
1\tone
2\ttwo
\\.
copy copied to stdout;
copy copied from stdin;
none\tno number
\\.
begin;
select generate_series(1, 3000);
select 1 / 0;
select 1;
rollback;
";

fn psql(client: &Client<'_>) -> Statuses {
    let printed = run(client, "psql", &["-q", "-At"], SCRIPT);
    assert!(printed.contains("\n3000\n"), "{printed}");
    let printed = run(
        client,
        "psql",
        &["-At", "-c", "select 7", "-c", "select 8; select 9"],
        "",
    );
    assert_eq!(printed, "7\n8\n9\n");
    // A connection for each.
    for _ in 0..10 {
        assert_eq!(run(client, "psql", &["-At", "-c", "select 7"], ""), "7\n");
    }
    statuses(&[("ok", 8 + 2 + 10), ("failed", 6)])
}

/// Rows that libpq reads in pieces of hundreds of kilobytes, and what follows them in the same piece.
pub(crate) fn large_rows(client: &Client<'_>) -> Statuses {
    let script = "select repeat('x', 1 << 20);\nselect repeat('x', 1 << 20) from generate_series(1, 3);\nselect 1;\n";
    let printed = run(client, "psql", &["-q", "-At"], &script.repeat(10));
    assert_eq!(printed.lines().count(), 50);
    statuses(&[("ok", 30)])
}

/// libpq's own pipelines: three statements and one end each.
fn pipelines(client: &Client<'_>) -> Statuses {
    let path = client.service.folder().join("pipeline.sql");
    fs::write(
        &path,
        "\\startpipeline\nselect 1;\nselect 2;\nselect 3;\n\\endpipeline\n",
    )
    .unwrap();
    let path = path.display().to_string();
    let transactions = pgbench(client, &["-M", "extended", "-f", &path, "-c", "4", "-t", "100"]);
    statuses(&[("ok", 3 * transactions)])
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "psql",
        run: psql,
    },
    Case {
        name: "pgbench -S",
        run: |client| bench(client, &["-S", "-t", "250"], 1, 0),
    },
    Case {
        name: "pgbench -S -M extended",
        run: |client| bench(client, &["-S", "-M", "extended", "-t", "250"], 1, 0),
    },
    // Each connection prepares the one statement.
    Case {
        name: "pgbench -S -M prepared",
        run: |client| bench(client, &["-S", "-M", "prepared", "-t", "250"], 1, 1),
    },
    Case {
        name: "pgbench -S -C",
        run: |client| bench(client, &["-S", "-C", "-t", "25"], 1, 0),
    },
    // From BEGIN to END.
    Case {
        name: "pgbench",
        run: |client| bench(client, &["-t", "25"], 7, 0),
    },
    Case {
        name: "pgbench's pipelines",
        run: pipelines,
    },
    Case {
        name: "psycopg2",
        run: |client| client.script(&script("library.py"), &["20"]),
    },
    Case {
        name: "pieces",
        run: |client| speak(client, "pieces", 5),
    },
    Case {
        name: "simple",
        run: |client| speak(client, "simple", 30),
    },
    Case {
        name: "errors",
        run: |client| speak(client, "errors", 20),
    },
    Case {
        name: "extended",
        run: |client| speak(client, "extended", 30),
    },
    Case {
        name: "pipeline",
        run: |client| speak(client, "pipeline", 600),
    },
    Case {
        name: "deep",
        run: |client| speak(client, "deep", 2_000),
    },
    Case {
        name: "large",
        run: |client| speak(client, "large", 3),
    },
    Case {
        name: "copies",
        run: |client| speak(client, "copies", 3),
    },
    Case {
        name: "cancelled",
        run: |client| speak(client, "cancelled", 2),
    },
    Case {
        name: "news",
        run: |client| speak(client, "news", 30),
    },
];

/// By pgx and lib/pq.
pub(crate) const DRIVEN: &[Case] = &[
    Case {
        name: "pgx, simple",
        run: |client| drive(client, "pgx-simple", 30),
    },
    Case {
        name: "pgx, cached",
        run: |client| drive(client, "pgx-cached", 40),
    },
    Case {
        name: "pgx, described",
        run: |client| drive(client, "pgx-described", 20),
    },
    Case {
        name: "pgx, named",
        run: |client| drive(client, "pgx-named", 20),
    },
    Case {
        name: "pgx, batch",
        run: |client| drive(client, "pgx-batch", 20),
    },
    Case {
        name: "pgx, pipeline",
        run: |client| drive(client, "pgx-pipeline", 20),
    },
    Case {
        name: "pgx, errors",
        run: |client| drive(client, "pgx-errors", 20),
    },
    Case {
        name: "pgx, copy",
        run: |client| drive(client, "pgx-copy", 5),
    },
    Case {
        name: "pgx, cancelled",
        run: |client| drive(client, "pgx-cancelled", 1),
    },
    Case {
        name: "pgx, large",
        run: |client| drive(client, "pgx-large", 3),
    },
    Case {
        name: "pgx, pool",
        run: |client| drive(client, "pgx-pool", 50),
    },
    Case {
        name: "pq, text",
        run: |client| drive(client, "pq-text", 20),
    },
    Case {
        name: "pq, prepared",
        run: |client| drive(client, "pq-prepared", 20),
    },
    Case {
        name: "pq, errors",
        run: |client| drive(client, "pq-errors", 20),
    },
    Case {
        name: "pq, copy",
        run: |client| drive(client, "pq-copy", 5),
    },
    Case {
        name: "pq, cancelled",
        run: |client| drive(client, "pq-cancelled", 1),
    },
    Case {
        name: "pq, large",
        run: |client| drive(client, "pq-large", 3),
    },
];
