//! What needs modules that this kernel may lack, on a kernel that has them, booted in QEMU: TLS of the kernel, and sockets
//! that the kernel itself connects.
#![expect(clippy::panic, reason = "helpers of tests")]
use serde_json::Value;
use std::{fs, path::Path};
use tarsier_integration::{Metrics, Script, binary, demand, require_root, require_tool};

const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"];

const MODULES: [&str; 5] = ["gcm", "ctr", "ghash-generic", "tls", "cifs"];

/// Of TLS 1.2 with AES-GCM: header, explicit nonce and tag.
const RECORD: u64 = 5 + 8 + 16;

/// Written at once by `calls`, and so the payload of a record.
const CHUNK: u64 = 8_191;

const ASKED: u64 = 70_001;
const ANSWERED: u64 = 50_021;
const COUNT: u64 = 3;
const ROUNDS: u64 = 2;

/// What TCP has to carry for `payload`.
const fn sealed(payload: u64) -> u64 {
    payload + payload.div_ceil(CHUNK) * RECORD
}

fn script() -> String {
    let (asked, answered) = (sealed(ASKED), sealed(ANSWERED));
    format!(
        r#"
export TARSIER__CONTAINERS__MIN_AGE=0s TARSIER__KERNEL__TOTALS_INTERVAL=1s
for module in /modules/*.ko; do insmod "$module" || exit 1; done
service() {{
  local group=/sys/fs/cgroup/system.slice/$1.service
  shift
  mkdir -p "$group"
  sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "$@"
}}
/tarsier run --log-format json --listen 127.0.0.1:10300 2>/tmp/log &
i=0
until wget -q -O /tmp/ready http://127.0.0.1:10300/readyz; do
  i=$((i+1)); [ $i -lt 60 ] || {{ cat /tmp/log; exit 1; }}; sleep 1
done
{{ sleep 12; echo report; sleep 1000; }} | service server /calls serve 127.0.0.1:8080 --by ktls --receive {asked} --send {ANSWERED} >/tmp/server &
{{ sleep 12; echo report; sleep 1000; }} | service share /calls serve 127.0.0.1:8081 --receive 1000000 >/tmp/share &
sleep 2
mkdir /tmp/share.mount
service mounter mount -i -t cifs -o ip=127.0.0.1,port=8081,vers=3.0,username=a,password=b //127.0.0.1/x /tmp/share.mount >/tmp/mount 2>&1 &
{{ echo round; echo round; sleep 1000; }} |
  service client /calls connect 127.0.0.1:8080 --by ktls --count {COUNT} --send {ASKED} --receive {answered} >/tmp/client &
sleep 16
echo BEGIN; wget -q -O - http://127.0.0.1:10300/metrics; echo END
for file in client server share mount; do echo "=$file"; cat /tmp/$file; done
for name in server share; do echo "=api-$name"; /tarsier inspect /system.slice/$name.service --json; echo; done
echo =
"#
    )
}

/// What the script printed of `name`.
fn part<'a>(console: &'a str, name: &str) -> &'a str {
    let rest = console.split(&format!("={name}\n")).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no {name}: {console}"));
    rest.split("\n=").next().expect("a split has a first part")
}

fn last_report(console: &str, name: &str) -> Value {
    let line = part(console, name).lines().rfind(|line| line.starts_with('{'));
    let report = line.and_then(|line| serde_json::from_str(line).ok());
    report.unwrap_or_else(|| panic!("{name} reports nothing: {console}"))
}

#[test]
fn kernel_tls_counts_what_tcp_carries_and_kernel_sockets_do_not_count() {
    let tools = [
        "qemu-system-x86_64",
        "cpio",
        "busybox",
        "apt-get",
        "dpkg-deb",
        "depmod",
        "modprobe",
        "xz",
    ];
    if !(require_root() && require_tool(&tools)) {
        return;
    }
    if !demand("x86_64", cfg!(target_arch = "x86_64")) {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
    let cache = cache.to_str().expect("a path is text");
    let kernels = Script::new("kernel.sh").env("CACHE", cache);
    let modules = Script::new("modules.sh").env("CACHE", cache);
    let path = kernels.folder().join("script");
    fs::write(&path, script()).expect("the folder is ours");
    for package in KERNELS {
        let kernel = kernels.run(&["fetch", "amd64", package]);
        let modules = modules.run(&[&["fetch", package], &MODULES[..]].concat());
        let mut files: Vec<_> = modules
            .lines()
            .filter_map(|file| Some(format!("{file}:/modules/{}", Path::new(file).file_name()?.to_str()?)))
            .collect();
        files.push(format!("{}:/tarsier", binary().display()));
        files.push(format!("{}:/calls", env!("CARGO_BIN_EXE_calls")));
        let mut words = vec!["run", "amd64", &kernel, path.to_str().expect("a path is text")];
        words.extend(files.iter().map(String::as_str));
        check(&kernel, &kernels.run(&words));
    }
}

fn check(kernel: &str, console: &str) {
    let connections = COUNT * ROUNDS;
    let (client, server) = (last_report(console, "client"), last_report(console, "server"));
    assert_eq!(client["sent"], connections * ASKED, "{kernel}: {client}");
    assert_eq!(client["received"], connections * sealed(ANSWERED), "{kernel}: {client}");
    assert_eq!(server["sent"], connections * ANSWERED, "{kernel}: {server}");
    assert_eq!(server["received"], connections * sealed(ASKED), "{kernel}: {server}");

    let text = console
        .split("BEGIN\n")
        .nth(1)
        .and_then(|rest| rest.split("END\n").next());
    let metrics = Metrics::parse(text.unwrap_or_else(|| panic!("{kernel}: {console}")));
    for (name, expected) in [
        ("successful_connects_total", COUNT),
        ("active_connections", COUNT),
        ("bytes_sent_total", connections * sealed(ASKED)),
        ("bytes_received_total", connections * sealed(ANSWERED)),
    ] {
        let name = format!("container_net_tcp_{name}");
        for labels in [
            &[("destination", "127.0.0.1:8080")][..],
            &[
                ("destination", "127.0.0.1:8080"),
                ("container_id", "/system.slice/client.service"),
            ],
        ] {
            assert_eq!(
                metrics.sum(&name, labels) as u64,
                expected,
                "{kernel}: {name}{labels:?}"
            );
        }
    }
    let listen = listen(console, "server", "127.0.0.1:8080");
    for (key, expected) in [
        ("accepted", COUNT),
        ("active", COUNT),
        ("sent_bytes", connections * sealed(ANSWERED)),
        ("received_bytes", connections * sealed(ASKED)),
    ] {
        assert_eq!(listen[key], expected, "{kernel}: {key} of {listen}");
    }

    // Somebody did connect, and nobody is said to have.
    let accepted = last_report(console, "share")["accepted"].as_u64();
    assert!(accepted.is_some_and(|accepted| accepted > 0), "{kernel}: {console}");
    let of_share = |sample: &&_| tarsier_integration::Sample::label(sample, "destination") == "127.0.0.1:8081";
    assert_eq!(metrics.samples().iter().find(of_share), None, "{kernel}");
    let listen = self::listen(console, "share", "127.0.0.1:8081");
    assert_eq!(
        listen["accepted"].as_u64(),
        accepted,
        "{kernel}: the server is a process: {listen}"
    );
}

fn listen(console: &str, name: &str, address: &str) -> Value {
    let container = part(console, &format!("api-{name}"));
    let container: Value =
        serde_json::from_str(container).unwrap_or_else(|error| panic!("{error}: {container:?}: {console}"));
    let listens = container["listens"].as_array();
    let found = listens.and_then(|listens| listens.iter().find(|listen| listen["address"] == address));
    found.unwrap_or_else(|| panic!("no {address}: {container}")).clone()
}
