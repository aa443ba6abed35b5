//! Processes that the kernel kills for want of memory: for the limit of a v2 cgroup and of a whole machine, on other kernels.
use std::{collections::BTreeMap, fs, path::Path};
use tarsier_integration::{Metrics, Script, binary, demand, require_root, require_tool};

const KERNELS: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-6.12-cloud-amd64"];

/// A service each: its limit in MiB (`max`: that of the machine), what it runs, and whether all of it is killed together.
const SERVICES: [(&str, &str, &str, &str); 6] = [
    ("alone", "48", "eat 300", "0"),
    ("threads", "48", "eat 300 threads", "0"),
    ("headless", "48", "eat 300 headless", "0"),
    ("shared", "48", "eat 300 shared", "0"),
    ("group", "48", "eat 300", "1"),
    ("global", "max", "eat 3000", "0"),
];

/// The eater has two idle ones beside it where all are killed together. Prints how it ended, and what the kernel's books say.
const SCRIPT: &str = r#"
export TARSIER__CONTAINERS__MIN_AGE=0s TARSIER__KERNEL__TOTALS_INTERVAL=1s
cd /sys/fs/cgroup; echo +memory >cgroup.subtree_control
mkdir system.slice; echo +memory >system.slice/cgroup.subtree_control
/tarsier run --log-format json --listen 127.0.0.1:10300 2>/tmp/log &
agent=$!
echo -1000 >/proc/$agent/oom_score_adj
i=0
until wget -q -O /tmp/ready http://127.0.0.1:10300/readyz; do
  i=$((i+1)); [ $i -lt 60 ] || { cat /tmp/log; exit 1; }; sleep 1
done
service() {
  g=/sys/fs/cgroup/system.slice/$1.service; mkdir $g
  [ $2 = max ] || echo $(($2 << 20)) >$g/memory.max
  echo $4 >$g/memory.oom.group
  if [ $4 = 1 ]; then
    for _ in 1 2; do sh -c "echo \$\$ >$g/cgroup.procs; exec sleep 1000" & done
    while [ $(wc -l <$g/cgroup.procs) -lt 2 ]; do sleep 0.1; done
  fi
  sh -c "echo \$\$ >$g/cgroup.procs; echo 1000 >/proc/self/oom_score_adj; exec /processes $3"
  echo "STATUS $1 $?"
  while [ -s $g/cgroup.procs ]; do sleep 0.1; done
  echo "BOOK $1 $(sed -n 's/^oom_kill //p' $g/memory.events)"
}
SERVICES
sleep 5
echo "BOOK all $(sed -n 's/^oom_kill //p' /proc/vmstat)"
echo BEGIN; wget -q -O - http://127.0.0.1:10300/metrics; echo END
kill $agent; wait $agent
"#;

#[test]
fn the_kernel_kills_for_a_limit_of_v2_and_for_the_whole_machine() {
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
    let services = SERVICES.map(|(name, limit, runs, group)| format!("service {name} {limit} '{runs}' {group}"));
    fs::write(&script, SCRIPT.replace("SERVICES", &services.join("\n"))).expect("the folder is ours");
    let agent = format!("{}:/tarsier", binary().display());
    let processes = concat!(env!("CARGO_BIN_EXE_processes"), ":/processes");
    for package in KERNELS {
        let kernel = kernels.run(&["fetch", "amd64", package]);
        let console = kernels.run(&["run", "amd64", &kernel, &script.to_string_lossy(), &agent, processes]);
        let between = console
            .split("BEGIN\n")
            .nth(1)
            .and_then(|rest| rest.split("END\n").next());
        let metrics = Metrics::parse(between.unwrap_or_else(|| panic!("{kernel}: {console}")));
        let said = |what: &str| -> BTreeMap<&str, u64> {
            let lines = console.lines().filter_map(|line| line.trim().strip_prefix(what));
            let pairs = lines.filter_map(|line| line.trim().split_once(' '));
            pairs
                .map(|(name, number)| (name, number.parse().expect("a number")))
                .collect()
        };
        let (statuses, book) = (said("STATUS "), said("BOOK "));
        let kills = |labels: &[(&str, &str)]| metrics.sum("container_oom_kills_total", labels) as u64;
        for (name, _, _, group) in SERVICES {
            let processes = if group == "1" { 3 } else { 1 };
            assert_eq!(
                statuses.get(name),
                Some(&137),
                "{kernel}: {name} was to be killed: {console}"
            );
            // Of a group the kernel kills one first and then all, with that one again if it is still there.
            let again = u64::from(group == "1");
            let book = *book.get(name).unwrap_or_else(|| panic!("{kernel}: {name}: {console}"));
            assert!(
                (processes..=processes + again).contains(&book),
                "{kernel}: {name}: {console}"
            );
            let id = format!("/system.slice/{name}.service");
            assert_eq!(
                kills(&[("container_id", &id)]),
                processes,
                "{kernel}: {name}: {console}"
            );
        }
        let whole = book["all"];
        let parts = book.values().sum::<u64>() - whole;
        assert_eq!(parts, whole, "{kernel}: killed elsewhere, too: {console}");
        assert_eq!(kills(&[]), SERVICES.len() as u64 + 2, "{kernel}: {console}");
        let of = |label: (&str, &str)| metrics.sum("tarsier_feature_state", &[label]);
        assert_eq!(of(("state", "degraded")), 0.0, "{kernel}: {console}");
        let lost = metrics.sum("tarsier_events_dropped_total", &[("class", "loss")]);
        assert_eq!(lost, 0.0, "{kernel}: {console}");
        let status = console.lines().rev().find_map(|line| line.strip_prefix("status "));
        assert_eq!(status, Some("0"), "{kernel}: {console}");
    }
}
