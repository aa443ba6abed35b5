//! The same counts on other kernels, each booted in QEMU with the agent inside.
use std::{fs, path::Path};
use tarsier_integration::{Metrics, Script, binary, demand, require_root, require_tool};

/// Debian's, in its stable release and its backport.
const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"];

/// A hundred connects that succeed, a hundred that are refused, ten without a route, all by processes that end at once.
const SCRIPT: &str = r#"
export TARSIER__CONTAINERS__MIN_AGE=0s TARSIER__KERNEL__TOTALS_INTERVAL=1s
/tarsier run --log-format json --listen 127.0.0.1:10300 2>/tmp/log &
agent=$!
i=0
until wget -q -O /tmp/ready http://127.0.0.1:10300/readyz; do
  i=$((i+1)); [ $i -lt 60 ] || { cat /tmp/log; exit 1; }; sleep 1
done
mkdir -p /sys/fs/cgroup/system.slice/client.service
echo $$ >/sys/fs/cgroup/system.slice/client.service/cgroup.procs
sleep 1000 | /workload serve 127.0.0.1:8080 --read 100 --answer 200 >/tmp/server &
sleep 1
/workload connect 127.0.0.1:8080 --count 100 --send 100 --receive 200
/workload connect 127.0.0.1:81 --count 100
/workload connect 203.0.113.1:82 --count 10
sleep 5
echo BEGIN; wget -q -O - http://127.0.0.1:10300/metrics; echo END
kill $agent; wait $agent
"#;

#[test]
fn counts_are_exact_on_older_kernels() {
    let tools = ["qemu-system-x86_64", "cpio", "busybox", "apt-get", "dpkg-deb"];
    if !(require_root() && require_tool(&tools)) {
        return;
    }
    if !demand("x86_64", cfg!(target_arch = "x86_64")) {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels");
    let kernels = Script::new("kernel.sh").env("CACHE", cache.to_str().expect("a path is text"));
    let script = kernels.folder().join("script");
    fs::write(&script, SCRIPT).expect("the folder is ours");
    let agent = format!("{}:/tarsier", binary().display());
    let workload = format!("{}:/workload", env!("CARGO_BIN_EXE_workload"));
    for package in KERNELS {
        let kernel = kernels.run(&["fetch", package]);
        let console = kernels.run(&["run", &kernel, &script.to_string_lossy(), &agent, &workload]);
        let text = console
            .split("BEGIN\n")
            .nth(1)
            .and_then(|rest| rest.split("END\n").next());
        let text = text.unwrap_or_else(|| panic!("{kernel}: {console}"));
        let metrics = Metrics::parse(text);
        let client = ("container_id", "/system.slice/client.service");
        let of = |name: &str, destination: &str| metrics.sum(name, &[client, ("destination", destination)]);
        assert_eq!(
            of("container_net_tcp_successful_connects_total", "127.0.0.1:8080"),
            100.0,
            "{kernel}"
        );
        assert_eq!(
            of("container_net_tcp_active_connections", "127.0.0.1:8080"),
            0.0,
            "{kernel}"
        );
        assert_eq!(
            of("container_net_tcp_bytes_sent_total", "127.0.0.1:8080"),
            10_000.0,
            "{kernel}"
        );
        assert_eq!(
            of("container_net_tcp_bytes_received_total", "127.0.0.1:8080"),
            20_000.0,
            "{kernel}"
        );
        assert_eq!(
            of("container_net_tcp_failed_connects_total", "127.0.0.1:81"),
            100.0,
            "{kernel}"
        );
        assert_eq!(
            of("container_net_tcp_failed_connects_total", "203.0.113.1:82"),
            10.0,
            "{kernel}"
        );
        assert_eq!(
            metrics.sum("tarsier_feature_state", &[("state", "degraded")]),
            0.0,
            "{kernel}: {text}"
        );
        assert_eq!(
            metrics.sum("tarsier_events_dropped_total", &[("class", "loss")]),
            0.0,
            "{kernel}"
        );
        let status = console.lines().rev().find_map(|line| line.strip_prefix("status "));
        assert_eq!(status, Some("0"), "{kernel}: {console}");
    }
}
