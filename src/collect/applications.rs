//! Which well-known software a process is, told from its command line.
//!
//! The words of the label `application_type` are the Go agent's, and so are the rules but for this: a name has to begin at
//! a boundary (there `/usr/bin/nasd` is an Aerospike, whose server is called `asd`), and Debian's `apache2` is known.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{CollectError, files::Dir, processes};
use crate::{
    base::ids::{Application, ProcKey},
    registry::identity::sandbox_id,
};
use std::{io::Read, path::Path, sync::Arc};

/// Longer command lines are judged by their beginning. Java's, with their class paths, are some ten thousand bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// Of the process with this key, as it calls itself now. `None`: of no known kind, or gone, or not to be looked at.
pub fn application(proc_root: &Path, process: ProcKey) -> Option<Application> {
    let dir = Dir::open(proc_root.join(process.tgid.to_string())).ok()?;
    if processes::start_ns(&dir)? != processes::cut_to_tick(process.start_ns) {
        return None;
    }
    // A first thread that has ended before the others has no memory to read from, and no program.
    let first = said_below(&dir, "");
    let said = match processes::other_thread(&dir, process.tgid) {
        Some(thread) if first.is_none() => said_below(&dir, &format!("task/{thread}/")),
        _ => first,
    };
    said.map(Application::from)
}

/// The engine's id of the container of gVisor's that the process with this key is the sandbox of, if it is one.
pub fn sandbox(proc_root: &Path, process: ProcKey) -> Option<Arc<str>> {
    let dir = Dir::open(proc_root.join(process.tgid.to_string())).ok()?;
    if processes::start_ns(&dir)? != processes::cut_to_tick(process.start_ns) {
        return None;
    }
    let command = command_line(&dir, "cmdline").ok()?;
    sandbox_id(&command).map(Arc::from)
}

fn said_below(dir: &Dir, thread: &str) -> Option<&'static str> {
    let command = command_line(dir, &format!("{thread}cmdline")).unwrap_or_default();
    let by_program = || judge_program(&dir.read_link(&format!("{thread}exe")).ok()?);
    judge(&command).or_else(by_program)
}

fn command_line(dir: &Dir, name: &str) -> Result<Vec<u8>, CollectError> {
    let mut bytes = Vec::new();
    let file = dir.open_file(name)?;
    let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|source| CollectError::io("read", &dir.path().join(name), source))?;
    Ok(bytes)
}

/// How a rule looks at the first word (a path is cut off only by the boundary), or at the whole command line.
enum Rule {
    /// The word ends in one of these.
    Name(&'static [&'static str]),
    /// The word contains one of these.
    Part(&'static [&'static str]),
    /// The command line contains one of these.
    Line(&'static [&'static str]),
    /// The word ends in the first, and the command line contains the second.
    Both(&'static str, &'static str),
    /// The word ends in one of these, or in one with a version behind it.
    Versioned(&'static [&'static str]),
}
use Rule::{Both, Line, Name, Part, Versioned};

/// The first that fits decides: what runs in a Java machine comes before Java.
const RULES: &[(&str, Rule)] = &[
    ("coroot-community-edition", Name(&["coroot"])),
    ("coroot-enterprise-edition", Name(&["coroot-ee"])),
    ("coroot-node-agent", Name(&["coroot-node-agent"])),
    ("coroot-cluster-agent", Name(&["coroot-cluster-agent"])),
    ("coroot-operator", Name(&["coroot-operator"])),
    ("memcached", Name(&["memcached"])),
    ("envoy", Name(&["envoy"])),
    ("elasticsearch", Line(&["org.elasticsearch.bootstrap"])),
    ("opensearch", Line(&["org.opensearch.bootstrap"])),
    (
        "kafka",
        Line(&["kafka.Kafka", "io.confluent.support.metrics.SupportedKafka"]),
    ),
    ("mongodb", Name(&["mongod"])),
    ("mongos", Name(&["mongos"])),
    ("mysql", Name(&["mysqld", "mariadbd"])),
    ("mssql", Name(&["sqlservr"])),
    (
        "zookeeper",
        Line(&["org.apache.zookeeper.server.quorum.QuorumPeerMain"]),
    ),
    ("redis", Name(&["redis-server"])),
    ("redis-sentinel", Name(&["redis-sentinel"])),
    ("keydb", Name(&["keydb-server"])),
    ("valkey", Name(&["valkey-server"])),
    ("dragonfly", Name(&["dragonfly"])),
    ("rabbitmq", Both("beam.smp", "rabbit")),
    ("couchbase", Both("beam.smp", "couch")),
    ("pgbouncer", Name(&["pgbouncer"])),
    ("postgres", Name(&["postgres"])),
    ("haproxy", Name(&["haproxy"])),
    ("nginx", Name(&["nginx"])),
    ("dotnet", Name(&["w3wp"])),
    ("kubelet", Name(&["kubelet"])),
    ("kube-apiserver", Name(&["kube-apiserver"])),
    ("kube-controller-manager", Name(&["kube-controller-manager"])),
    ("kube-scheduler", Name(&["kube-scheduler"])),
    ("k3s", Name(&["k3s"])),
    ("etcd", Name(&["etcd"])),
    ("dockerd", Name(&["dockerd"])),
    ("consul", Name(&["consul"])),
    ("cassandra", Line(&["org.apache.cassandra.service.CassandraDaemon"])),
    ("clickhouse", Name(&["clickhouse-server"])),
    ("traefik", Name(&["traefik"])),
    ("aerospike", Name(&["asd"])),
    ("httpd", Name(&["httpd", "apache", "apache2"])),
    ("influxdb", Name(&["influxd"])),
    ("tomcat", Line(&["org.apache.catalina.startup.Bootstrap"])),
    ("vault", Name(&["vault"])),
    ("proxysql", Name(&["proxysql"])),
    ("cockroach", Name(&["cockroach"])),
    ("prometheus", Name(&["prometheus"])),
    ("ceph", Name(&["ceph-mon", "ceph-mgr", "ceph-osd", "cephcsi"])),
    ("rook", Name(&["rook"])),
    ("nats", Name(&["nats-server"])),
    ("java", Name(&["java"])),
    ("ollama", Name(&["ollama"])),
    ("foundationdb", Name(&["fdbserver"])),
    (
        "victoria-metrics",
        Part(&["victoria-metrics", "vmstorage", "vminsert", "vmselect"]),
    ),
    ("victoria-logs", Part(&["victoria-logs"])),
];

/// These also go by their program: their command lines are often rewritten to tell what they run.
const LANGUAGES: &[(&str, Rule)] = &[
    ("php", Versioned(&["php", "php-fpm", "php-cgi"])),
    ("python", Versioned(&["python"])),
    ("nodejs", Versioned(&["node", "nodejs"])),
    ("ruby", Versioned(&["ruby"])),
];

/// `command` is what `/proc/PID/cmdline` says: whatever the process likes, words that end in zero bytes as a rule.
fn judge(command: &[u8]) -> Option<&'static str> {
    let first = command.split(|byte| *byte == 0).next()?;
    let word = first.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    let word = word.strip_suffix(b":").unwrap_or(word);
    of(RULES, word, command).or_else(|| of(LANGUAGES, word, command))
}

fn judge_program(path: &[u8]) -> Option<&'static str> {
    of(LANGUAGES, path.strip_suffix(b" (deleted)").unwrap_or(path), &[])
}

fn of(rules: &[(&'static str, Rule)], word: &[u8], line: &[u8]) -> Option<&'static str> {
    let fits = |rule: &Rule| match rule {
        Name(names) => names.iter().any(|name| ends_in(word, name)),
        Part(parts) => parts.iter().any(|part| contains(word, part)),
        Line(parts) => parts.iter().any(|part| contains(line, part)),
        Both(name, part) => ends_in(word, name) && contains(line, part),
        Versioned(names) => names.iter().any(|name| ends_in(without_version(word), name)),
    };
    rules.iter().find(|(_, rule)| fits(rule)).map(|(kind, _)| *kind)
}

/// Of a longer word, a name is the part behind a character that is in no name.
fn ends_in(word: &[u8], name: &str) -> bool {
    word.strip_suffix(name.as_bytes())
        .is_some_and(|before| !before.last().is_some_and(u8::is_ascii_alphanumeric))
}

fn without_version(word: &[u8]) -> &[u8] {
    let in_version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let name = word.iter().rposition(|byte| !in_version(byte)).map_or(0, |at| at + 1);
    match word.split_at_checked(name) {
        // No version begins with a dot.
        Some((name, version)) if !version.starts_with(b".") => name,
        _ => word,
    }
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, os::unix::process::CommandExt, process::Command};

    /// Words by spaces; `_` is a space within a word.
    fn line(words: &str) -> Vec<u8> {
        words
            .split(' ')
            .flat_map(|word| [word.replace('_', " ").as_bytes(), &[0]].concat())
            .collect()
    }

    #[test]
    fn every_rule() {
        let rows = [
            ("/opt/coroot/coroot --listen=:8080", "coroot-community-edition"),
            ("/opt/coroot/coroot-ee", "coroot-enterprise-edition"),
            ("/usr/bin/coroot-node-agent", "coroot-node-agent"),
            ("coroot-cluster-agent", "coroot-cluster-agent"),
            ("/manager/coroot-operator", "coroot-operator"),
            ("memcached -m 64", "memcached"),
            ("/usr/local/bin/envoy -c x", "envoy"),
            (
                "/jdk/bin/java -cp a org.elasticsearch.bootstrap.Elasticsearch",
                "elasticsearch",
            ),
            ("java org.opensearch.bootstrap.OpenSearch", "opensearch"),
            ("java -Xmx1G kafka.Kafka server.properties", "kafka"),
            ("java io.confluent.support.metrics.SupportedKafka x", "kafka"),
            ("/usr/bin/mongod --config x", "mongodb"),
            ("mongos", "mongos"),
            ("/usr/sbin/mysqld", "mysql"),
            ("/usr/sbin/mariadbd", "mysql"),
            ("/opt/mssql/bin/sqlservr", "mssql"),
            (
                "java org.apache.zookeeper.server.quorum.QuorumPeerMain zoo.cfg",
                "zookeeper",
            ),
            ("redis-server_*:6379", "redis"),
            ("/usr/bin/redis-sentinel_*:26379_[sentinel]", "redis-sentinel"),
            ("keydb-server", "keydb"),
            ("valkey-server", "valkey"),
            ("./dragonfly", "dragonfly"),
            ("/erlang/bin/beam.smp -W w -- -name rabbit@host", "rabbitmq"),
            ("/erlang/bin/beam.smp -- /opt/couchbase/lib", "couchbase"),
            ("/usr/sbin/pgbouncer", "pgbouncer"),
            ("/usr/lib/postgresql/15/bin/postgres -D x", "postgres"),
            ("postgres:_15/main:_checkpointer_", "postgres"),
            ("haproxy", "haproxy"),
            ("nginx:_master_process_/usr/sbin/nginx_-g_daemon_off;", "nginx"),
            ("nginx:_worker_process", "nginx"),
            ("w3wp", "dotnet"),
            ("/usr/bin/kubelet", "kubelet"),
            ("kube-apiserver", "kube-apiserver"),
            ("kube-controller-manager", "kube-controller-manager"),
            ("kube-scheduler", "kube-scheduler"),
            ("/usr/local/bin/k3s server", "k3s"),
            ("etcd", "etcd"),
            ("/usr/bin/dockerd -H fd://", "dockerd"),
            ("consul agent", "consul"),
            ("java org.apache.cassandra.service.CassandraDaemon", "cassandra"),
            ("/usr/bin/clickhouse-server", "clickhouse"),
            ("traefik", "traefik"),
            ("/usr/bin/asd --foreground", "aerospike"),
            ("httpd -DFOREGROUND", "httpd"),
            ("/usr/sbin/apache2 -k start", "httpd"),
            ("apache", "httpd"),
            ("influxd", "influxdb"),
            ("java org.apache.catalina.startup.Bootstrap start", "tomcat"),
            ("vault server", "vault"),
            ("proxysql", "proxysql"),
            ("/cockroach/cockroach start", "cockroach"),
            ("/bin/prometheus --config.file=x", "prometheus"),
            ("/usr/bin/ceph-mon", "ceph"),
            ("ceph-mgr", "ceph"),
            ("ceph-osd", "ceph"),
            ("/usr/local/bin/cephcsi", "ceph"),
            ("/usr/local/bin/rook ceph operator", "rook"),
            ("nats-server", "nats"),
            ("/usr/lib/jvm/java-17/bin/java -jar app.jar", "java"),
            ("ollama serve", "ollama"),
            ("/usr/sbin/fdbserver", "foundationdb"),
            ("/victoria-metrics-prod -x", "victoria-metrics"),
            ("/vmstorage-prod", "victoria-metrics"),
            ("/vminsert", "victoria-metrics"),
            ("/vmselect-prod", "victoria-metrics"),
            ("/victoria-logs-prod", "victoria-logs"),
            ("php-fpm:_master_process_(/etc/php/8.2/fpm/php-fpm.conf)", "php"),
            ("/usr/sbin/php-fpm8.2", "php"),
            ("php8 app.php", "php"),
            ("/usr/bin/php-cgi", "php"),
            ("/usr/bin/python3 app.py", "python"),
            ("python", "python"),
            ("/opt/venv/bin/python3.11 -m http.server", "python"),
            ("node server.js", "nodejs"),
            ("/usr/bin/nodejs18 x", "nodejs"),
            ("ruby3.1 x", "ruby"),
        ];
        for (command, kind) in rows {
            assert_eq!(judge(&line(command)), Some(kind), "{command}");
        }
        let shown: BTreeSet<_> = rows.iter().map(|(_, kind)| *kind).collect();
        let known: BTreeSet<_> = RULES.iter().chain(LANGUAGES).map(|(kind, _)| *kind).collect();
        assert_eq!(shown, known, "a rule without a line here");
    }

    #[test]
    fn what_is_nothing_known() {
        for command in [
            "",
            " ",
            "/bin/sh ./run.sh",
            "sh -c nginx",
            "/usr/bin/nasd",
            "nginxx",
            "monopython",
            "python.",
            "gunicorn:_master_[app]",
            "cat /etc/nginx/nginx.conf",
            "beam.smp -x",
        ] {
            assert_eq!(judge(&line(command)), None, "{command}");
        }
        for raw in [&b"\0\0nginx"[..], b"\xff\xfe\0nginx", b":", b" : "] {
            assert_eq!(judge(raw), None, "{raw:?}");
        }
        assert_eq!(judge(b"nginx"), Some("nginx"), "without a zero byte");
    }

    #[test]
    fn programs() {
        assert_eq!(judge_program(b"/usr/bin/python3.11"), Some("python"));
        assert_eq!(judge_program(b"/usr/bin/ruby3.1 (deleted)"), Some("ruby"));
        assert_eq!(judge_program(b"/usr/sbin/nginx"), None, "by its command line only");
        assert_eq!(judge_program(b""), None);
    }

    /// Its key, once it has a command line: for a moment after exec it has none.
    fn key(tgid: u32) -> ProcKey {
        while std::fs::read(format!("/proc/{tgid}/cmdline")).unwrap().is_empty() {
            std::thread::yield_now();
        }
        processes::process(Path::new("/proc"), tgid).unwrap().unwrap().key
    }

    #[test]
    fn a_real_process() {
        let mut child = Command::new("sleep")
            .arg0("redis-server *:6379")
            .arg("60")
            .spawn()
            .unwrap();
        let process = key(child.id());
        let found = || application(Path::new("/proc"), process);
        assert_eq!(found(), Some(Application::from("redis")));
        let other = ProcKey {
            start_ns: process.start_ns + 1_000_000_000,
            ..process
        };
        assert_eq!(application(Path::new("/proc"), other), None, "another with this pid");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found(), None);
    }

    #[test]
    fn hostile_command_lines() {
        let long = "x".repeat(120_000);
        let mut huge = Command::new("sleep");
        huge.arg0(format!("{long} nginx")).arg("60");
        huge.env("PAD", &long);
        let mut child = huge.spawn().unwrap();
        assert_eq!(application(Path::new("/proc"), key(child.id())), None);
        child.kill().unwrap();
        child.wait().unwrap();

        let mut nameless = Command::new("sleep").arg0("").arg("60").spawn().unwrap();
        assert_eq!(application(Path::new("/proc"), key(nameless.id())), None);
        nameless.kill().unwrap();
        nameless.wait().unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            judge(&bytes);
            judge_program(&bytes);
        }
    }
}
