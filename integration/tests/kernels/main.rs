//! The same counts on other kernels, each booted in QEMU with the agent inside.
#![expect(clippy::panic, reason = "helpers of tests")]
mod requests;
mod servers;

use servers::Servers;
use std::{collections::BTreeSet, path::Path};
use tarsier_integration::{
    Agent, Metrics, binary,
    kernel::{Boot, Emulator, Machine, keep_programs, lacking},
    require_root,
};

/// What is expected of one kernel.
struct Row<'a> {
    /// Debian's package, the newest build of it; or the path of a kernel.
    kernel: &'a str,
    /// More of the agent's configuration: `TARSIER__SECTION__KEY=value`.
    environment: &'a [&'a str],
    /// The features that do not work there, and no others.
    lacks: &'a [&'a str],
}

const fn row(kernel: &str) -> Row<'_> {
    Row {
        kernel,
        environment: &[],
        lacks: &[],
    }
}

const AMD64: [Row; 3] = [
    row("linux-image-cloud-amd64"),
    row("linux-image-6.12-cloud-amd64"),
    Row {
        environment: &["TARSIER__KERNEL__SOCKET_HOOK=receive"],
        lacks: &["dns", "l7", "socket_io"],
        ..row("linux-image-6.12-cloud-amd64")
    },
];
const ARM64: [Row; 2] = [
    // The kernel of this architecture cannot attach to the end of a function before 6.4.
    Row {
        lacks: &["dns", "l7", "socket_io"],
        ..row("linux-image-cloud-arm64")
    },
    row("linux-image-6.12-cloud-arm64"),
];

const SCRIPT: &str = include_str!("guest.sh");

#[test]
fn counts_are_exact_on_older_kernels() {
    check(Machine::Amd64, &AMD64);
}

/// Any other one: `TARSIER_IT_KERNEL=/boot/vmlinuz-... make test TESTS=counts_are_exact_on_a_named_kernel`.
#[test]
fn counts_are_exact_on_a_named_kernel() {
    let named = std::env::var("TARSIER_IT_KERNEL").unwrap_or_default();
    // Nobody has to have one: not a prerequisite that can be missing.
    if !named.is_empty() {
        check(Machine::Amd64, &[row(&named)]);
    }
}

#[test]
fn counts_are_exact_on_aarch64() {
    check(Machine::Arm64, &ARM64);
}

fn target() -> &'static Path {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("cargo makes it in the target folder")
}

fn check(machine: Machine, rows: &[Row]) {
    let Some(emulator) = Emulator::new(machine, target()) else {
        return;
    };
    let servers = match machine.is_this().then(Servers::prepare) {
        Some(None) => return,
        servers => servers.flatten(),
    };
    for row in rows {
        // Where requests are not seen nobody has to ask.
        let servers = servers.as_ref().filter(|_| !row.lacks.contains(&"l7"));
        let settings = row.environment.iter().map(|&setting| setting.to_owned());
        let settings = settings.chain(servers.map(Servers::environment));
        let exports = settings.map(|setting| format!("export {setting}\n"));
        let script = exports.chain([SCRIPT.to_owned()]).collect::<String>();
        let files = servers.map(Servers::files).unwrap_or_default();
        let boot = emulator.boot(row.kernel, &script, &files);
        let scrapes = [1, 2, 3, 4, 5].map(|scrape| Metrics::parse(boot.section(&format!("metrics {scrape}"))));
        exact(&boot, &scrapes[4]);
        if servers.is_some() {
            requests::exact(&boot);
        }
        assert!(
            scrapes.iter().any(|metrics| unbalanced(metrics).is_empty()),
            "{}: never balanced: {:?}",
            boot.release,
            scrapes.map(|metrics| unbalanced(&metrics))
        );
        let lacks: BTreeSet<_> = row.lacks.iter().map(|&feature| feature.to_owned()).collect();
        assert_eq!(
            lacking(&scrapes[4]),
            lacks,
            "{}: {:#?}",
            boot.release,
            scrapes[4].lines("tarsier_feature_state", &[])
        );
        // With another configuration others are loaded.
        if row.environment.is_empty() {
            boot.keep_programs();
        }
    }
}

fn exact(boot: &Boot, metrics: &Metrics) {
    let release = &boot.release;
    let client = ("container_id", "/system.slice/client.service");
    let of = |name: &str, destination: &str| metrics.sum(name, &[client, ("destination", destination)]);
    let expected = [
        (
            "container_net_tcp_successful_connects_total",
            ["127.0.0.1:8080", "[::1]:8080"],
            100.0,
        ),
        (
            "container_net_tcp_active_connections",
            ["127.0.0.1:8080", "[::1]:8080"],
            0.0,
        ),
        (
            "container_net_tcp_bytes_sent_total",
            ["127.0.0.1:8080", "[::1]:8080"],
            10_000.0,
        ),
        (
            "container_net_tcp_bytes_received_total",
            ["127.0.0.1:8080", "[::1]:8080"],
            20_000.0,
        ),
        (
            "container_net_tcp_failed_connects_total",
            ["127.0.0.1:81", "[::1]:81"],
            100.0,
        ),
        (
            "container_net_tcp_failed_connects_total",
            ["203.0.113.1:82", "[2001:db8::1]:82"],
            10.0,
        ),
    ];
    for (name, destinations, value) in expected {
        for destination in destinations {
            assert_eq!(of(name, destination), value, "{release}: {name} of {destination}");
        }
    }
    questions(boot, metrics);
    let older = ("container_id", "/system.slice/older.service");
    for destination in ["127.0.0.1:8081", "[::1]:8081"] {
        let of = |name: &str| metrics.sum(name, &[older, ("destination", destination)]);
        // What it had sent before was not counted, and will not be.
        let expected = [
            ("container_net_tcp_active_connections", 1.0),
            ("container_net_tcp_successful_connects_total", 0.0),
            ("container_net_tcp_bytes_sent_total", 0.0),
        ];
        for (name, value) in expected {
            assert_eq!(
                of(name),
                value,
                "{release}: {name} of {destination}, older than the agent"
            );
        }
    }
    for role in ["client", "server"] {
        let container = format!("/system.slice/{role}.service");
        let labels = [("container_id", container.as_str()), ("role", role)];
        let closes = metrics.sum("tarsier_container_tcp_closes_total", &labels);
        assert_eq!(closes, 200.0, "{release}: closes of {container} as a {role}");
    }
    let delivered = |kind| metrics.sum("tarsier_events_delivered_total", &[("kind", kind)]);
    for kind in ["process_started", "process_exited"] {
        assert!(delivered(kind) >= 400.0, "{release}: {kind}: {}", delivered(kind));
    }
    let lost = metrics.all("tarsier_events_dropped_total", &[("class", "loss")]);
    let lost: Vec<_> = lost.filter(|row| row.value != 0.0).collect();
    assert!(lost.is_empty(), "{release}: {lost:#?}");
}

/// The kinds of which observed is not delivered, dropped and on its way.
fn unbalanced(metrics: &Metrics) -> Vec<String> {
    let observed = metrics.all("tarsier_events_observed_total", &[]);
    let missing = observed.filter_map(|row| {
        let kind = row.label("kind");
        let sum = |name| metrics.sum(name, &[("kind", kind)]);
        let accounted = sum("tarsier_events_delivered_total")
            + sum("tarsier_events_dropped_total")
            + sum("tarsier_events_in_flight");
        (row.value != accounted).then(|| format!("{kind}: {} is not {accounted}", row.value))
    });
    missing.collect()
}

/// The numbers of this kernel beside those of the others.
#[test]
fn the_verifier_is_far_from_its_limit() {
    if !require_root() {
        return;
    }
    let agent = Agent::start();
    let output = std::process::Command::new(binary())
        .args(["programs", "--admin-socket"])
        .arg(agent.admin_socket())
        .output()
        .expect("the agent's binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let table = String::from_utf8_lossy(&output.stdout);
    keep_programs(
        target(),
        &format!("{} {}", release.trim(), std::env::consts::ARCH),
        &table,
    );
}

/// Nothing but zeroes where nobody could answer.
fn questions(boot: &Boot, metrics: &Metrics) {
    let asks = if boot.has_name_server() && !lacking(metrics).contains("dns") {
        100.0
    } else {
        0.0
    };
    let client = ("container_id", "/system.slice/names.service");
    for kind in ["TypeA", "TypeAAAA"] {
        let labels = [
            client,
            ("domain", "one.example"),
            ("request_type", kind),
            ("status", "ok"),
        ];
        let asked = metrics.sum("container_dns_requests_total", &labels);
        assert_eq!(asked, asks, "{}: {kind}", boot.release);
    }
    assert_eq!(
        metrics.sum("tarsier_container_l7_unparsed_total", &[]),
        0.0,
        "{}",
        boot.release
    );
    // Somebody else has asked until it answered.
    let answered = metrics.sum("container_dns_inbound_requests_total", &[("status", "ok")]);
    assert!(answered >= 2.0 * asks, "{}: {answered}", boot.release);
}
