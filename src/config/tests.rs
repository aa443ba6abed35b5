use super::*;
use proptest::prelude::*;
use std::{fs, time::Duration};

fn file(text: &str) -> File {
    File {
        path: PathBuf::from("/etc/t.yaml"),
        text: text.to_owned(),
    }
}

fn merged(text: &str, environment: &[(&str, &str)], overrides: &Overrides) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    merge(Some(&file(text)), environment, overrides)
}

/// The line that `main` prints.
fn line(err: &ConfigError) -> String {
    let mut line = err.to_string();
    let mut source = std::error::Error::source(err);
    while let Some(err) = source {
        line += &format!(": {err}");
        source = err.source();
    }
    line
}

fn refused(text: &str, environment: &[(&str, &str)]) -> String {
    let line = line(&merged(text, environment, &Overrides::default()).unwrap_err());
    assert!(!line.contains('\n'), "{line}");
    line
}

const SHIPPED: &str = include_str!("../../configs/tarsier.yaml");

/// `section.key.` of every leaf, in order.
fn keys(config: &serde_yaml_ng::Value) -> Vec<String> {
    let Some(mapping) = config.as_mapping() else {
        return vec![String::new()];
    };
    let below = mapping.iter().flat_map(|(key, below)| {
        let key = key.as_str().unwrap();
        keys(below).into_iter().map(move |below| format!("{key}.{below}"))
    });
    below.collect()
}

#[test]
fn the_shipped_file_is_the_default_and_has_every_key() {
    assert_eq!(file(SHIPPED).parse().unwrap(), Config::default());
    let shipped = serde_yaml_ng::from_str(SHIPPED).unwrap();
    let default = serde_yaml_ng::to_value(Config::default()).unwrap();
    assert_eq!(keys(&shipped), keys(&default));
}

#[test]
fn every_section_and_key_of_the_shipped_file_is_explained() {
    let mut explained = false;
    for line in SHIPPED.lines() {
        let text = line.trim_start();
        let is_section = !line.starts_with(' ') && text.ends_with(':');
        if text.starts_with('#') {
            explained = true;
        } else if text.is_empty() {
            explained = false;
        } else if !is_section {
            // Two keys may share what is said of them.
            assert!(explained, "nothing is said of {text}");
        }
    }
}

#[test]
fn a_config_is_read_back_as_it_was_written() {
    let text = serde_yaml_ng::to_string(&Config::default()).unwrap();
    assert_eq!(file(&text).parse().unwrap(), Config::default());
}

#[test]
fn later_layers_win() {
    let text = "http: {listen: '[::1]:1'}\nadmin: {socket: /file}\nlog: {format: json}\ncontainers: {min_age: 1s}";
    let environment = [
        ("TARSIER__HTTP__LISTEN", "[::1]:2"),
        ("TARSIER__ADMIN__SOCKET", "/variable"),
        ("TARSIER__LOG__FORMAT", "term"),
        ("OTHER__HTTP__LISTEN", "nonsense"),
        ("TARSIER_PORT", "tcp://10.0.0.1:10300"),
    ];
    let overrides = Overrides {
        listen: Some("[::1]:3".parse().unwrap()),
        admin_socket: Some(PathBuf::from("/flag")),
        log_format: Some(LogFormat::Journald),
    };
    let config = merged(text, &environment, &overrides).unwrap();
    assert_eq!(config.http.listen.port(), 3);
    assert_eq!(config.admin.socket, Path::new("/flag"));
    assert_eq!(config.log.format, LogFormat::Journald);

    let config = merged(text, &environment, &Overrides::default()).unwrap();
    assert_eq!(config.http.listen.port(), 2);
    assert_eq!(config.admin.socket, Path::new("/variable"));
    assert_eq!(config.log.format, LogFormat::Term);

    let config = merged(text, &[], &Overrides::default()).unwrap();
    assert_eq!(config.http.listen.port(), 1);
    assert_eq!(config.http.scrape_timeout, Config::default().http.scrape_timeout);
    assert_eq!(config.containers.min_age, Duration::from_secs(1));
}

#[test]
fn variables_reach_every_kind_of_value() {
    let environment = [
        ("TARSIER__CONTAINERS__MIN_AGE", "0s"),
        ("TARSIER__KERNEL__NEWS_RING_BYTES", "8192"),
        ("TARSIER__KERNEL__BATCH", "7"),
        ("TARSIER__KERNEL__FEATURES_OFF", "btf, totals"),
        ("TARSIER__IDENTITY__STANDALONE", "per-process"),
        ("TARSIER__NETWORK__TRACK_PUBLIC", ""),
        ("TARSIER__NETWORK__EPHEMERAL_PORTS", "32768-60999,65535"),
        ("TARSIER__HOST__ROOT", "7"),
        ("TARSIER__LOG__LEVEL", "warn"),
        ("TARSIER__FILTERS__DENY", "^/k8s/kube-system/, test$"),
        ("TARSIER__FILTERS__SKIP_SYSTEMD_SYSTEM_SERVICES", "false"),
        ("TARSIER__FILTERS__SIGNALS__TCP__DENY", "^/docker/"),
        ("TARSIER__METRICS__LABELS", "pod, namespace"),
        ("TARSIER__RUNTIMES__DOCKER__ENABLED", "false"),
        ("TARSIER__RUNTIMES__CRIO__SOCKETS", "/a.sock,/b.sock"),
    ];
    let config = merged("kernel: {features_off: [proc]}", &environment, &Overrides::default()).unwrap();
    assert_eq!(config.containers.min_age, Duration::ZERO);
    assert_eq!(config.kernel.news_ring_bytes, ByteSize(8192));
    assert_eq!(config.kernel.batch, 7);
    assert_eq!(config.kernel.features_off, ["btf", "totals"]);
    assert_eq!(config.identity.standalone, Standalone::PerProcess);
    assert_eq!(config.network.track_public, []);
    assert_eq!(config.network.ephemeral_ports, ["32768-60999", "65535"]);
    assert_eq!(config.host.root, Path::new("7"));
    assert_eq!(config.log.level, LogLevel::Warn);
    let deny: Vec<_> = config.filters.deny.iter().map(Pattern::as_str).collect();
    assert_eq!(deny, ["^/k8s/kube-system/", "test$"]);
    assert!(!config.filters.skip_systemd_system_services);
    assert_eq!(config.filters.signals.tcp.deny[0].as_str(), "^/docker/");
    assert_eq!(config.metrics.labels, [Label::Pod, Label::Namespace]);
    assert!(!config.runtimes.docker.enabled && config.runtimes.crio.enabled);
    assert_eq!(
        config.runtimes.crio.sockets,
        [Path::new("/a.sock"), Path::new("/b.sock")]
    );
}

#[test]
fn an_empty_list_of_the_file_stays_empty() {
    let text = "network: {track_public: [], ephemeral_ports: []}";
    let config = merged(text, &[("TARSIER__KERNEL__BATCH", "7")], &Overrides::default()).unwrap();
    assert!(config.network.track_public.is_empty() && config.network.ephemeral_ports.is_empty());
}

#[test]
fn files_that_say_nothing_are_defaults() {
    for text in [
        "",
        "\n\n",
        "# nothing\n",
        "---\n",
        "kernel: {}\n",
        "kernel:\n  # batch: 1\n",
    ] {
        assert_eq!(
            merged(text, &[], &Overrides::default()).unwrap(),
            Config::default(),
            "{text:?}"
        );
    }
}

#[test]
fn a_wrong_file_is_refused_with_file_line_column_and_key() {
    let cases = [
        (
            "kernel:\n  batch: 1\n  bacth: 2\n",
            "/etc/t.yaml, line 3, column 3: kernel: unknown field `bacth`, expected one of `news_ring_bytes`, \
             `drain_interval`, `totals_interval`, `inventory_interval`, `files_interval`, `retry_interval`, \
             `socket_hook`, `realtime_percent`, `batch`, `features_off`",
        ),
        (
            "kernel:\n  batch: many\n",
            "/etc/t.yaml, line 2, column 10: kernel.batch: invalid type: string \"many\", expected usize",
        ),
        (
            "log:\n\n  level: loud\n",
            "/etc/t.yaml, line 3, column 10: log.level: unknown variant `loud`, expected one of `error`, `warn`, \
             `info`, `debug`",
        ),
        (
            "containers:\n  min_age: 30\n",
            "/etc/t.yaml, line 2, column 12: containers.min_age: invalid value: string \"30\", expected a duration",
        ),
        (
            "kernel:\n  news_ring_bytes: 1MB\n",
            "/etc/t.yaml, line 2, column 20: kernel.news_ring_bytes: invalid value: string \"1MB\", expected a \
             number of bytes, alone or with one of the units B, KiB, MiB, GiB",
        ),
        (
            "network:\n  track_public:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n",
            "/etc/t.yaml, line 4, column 7: network.track_public[1]: invalid IP address syntax",
        ),
        (
            "http:\n  listen: localhost:80\n",
            "/etc/t.yaml, line 2, column 11: http.listen: invalid socket address syntax",
        ),
        (
            "kernel:\n  batch: 0\n",
            "/etc/t.yaml, line 2, column 10: kernel.batch: must be more than 0",
        ),
        (
            "supervisor: {backoff_max: 1ms}\n",
            "/etc/t.yaml, line 1, column 27: supervisor.backoff_min: must not be more than supervisor.backoff_max",
        ),
        (
            "filters:\n  allow:\n    - ^/k8s/\n    - a(b\n",
            "/etc/t.yaml, line 4, column 7: filters.allow[1]: \"a(b\" is no regular expression: unclosed group",
        ),
        (
            "filters:\n  signals:\n    tcp: {deny: [x]}\n    logs: {deny: [x]}\n",
            "/etc/t.yaml, line 4, column 5: filters.signals: unknown field `logs`, expected one of `tcp`, `files`, `l7`",
        ),
        (
            "metrics:\n  labels: [pod, team]\n",
            "/etc/t.yaml, line 2, column 17: metrics.labels[1]: unknown variant `team`, expected one of `namespace`, \
             `workload`, `pod`, `container`, `process`, `pid`",
        ),
        (
            "metrics:\n  labels: [pod, pid, pod]\n",
            "/etc/t.yaml, line 2, column 11: metrics.labels: must name each label once, pod is there twice",
        ),
        (
            "runtimes:\n  crio:\n    sockets: [crio.sock]\n",
            "/etc/t.yaml, line 3, column 14: runtimes.crio.sockets: must be paths that start with /",
        ),
        (
            "runtimes: {docker: {socket: /a}}\n",
            "/etc/t.yaml, line 1, column 21: runtimes.docker: unknown field `socket`, expected `enabled` or `sockets`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text, &[]), expected);
    }
    // A variable that would cover it changes nothing.
    let covered = refused("kernel:\n  batch: 0\n", &[("TARSIER__KERNEL__BATCH", "1")]);
    assert_eq!(covered, cases[7].1);
}

#[test]
fn what_is_no_yaml_or_has_another_shape_is_refused_with_its_line() {
    for (text, expected) in [
        (
            "network:\n  track_public: [\n",
            "line 3, column 1: did not find expected node content at line 3 column 1, while parsing a flow node",
        ),
        (
            "kernel:\n\tbatch: 1\n",
            "line 2, column 1: found character that cannot start any token at line 2 column 1, while scanning for the \
             next token",
        ),
        (
            "- 1\n",
            "line 1, column 1: invalid type: sequence, expected struct Config",
        ),
        // The parser knows where the mapping starts, and no more.
        (
            "gc:\n  interval: 1s\n  interval: 2s\n",
            "line 2, column 3: gc: duplicate field `interval`",
        ),
    ] {
        assert_eq!(refused(text, &[]), format!("/etc/t.yaml, {expected}"));
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let cases = [
        (
            ("TARSIER__KERNEL__BATCH", "many"),
            "environment variable TARSIER__KERNEL__BATCH: \"many\" is not a whole number",
        ),
        (
            ("TARSIER__KERNEL__BATCH", "true"),
            "environment variable TARSIER__KERNEL__BATCH: \"true\" is not a whole number",
        ),
        (
            ("TARSIER__KERNEL__BATCH", "0"),
            "environment variable TARSIER__KERNEL__BATCH: kernel.batch: must be more than 0",
        ),
        (
            ("TARSIER__SUPERVISOR__BACKOFF_MAX", "1ms"),
            "environment variable TARSIER__SUPERVISOR__BACKOFF_MAX: supervisor.backoff_min: must not be more than \
             supervisor.backoff_max",
        ),
        (
            ("TARSIER__LOG__LEVEL", "loud"),
            "environment variable TARSIER__LOG__LEVEL: unknown variant `loud`, expected one of `error`, `warn`, \
             `info`, `debug`",
        ),
        (
            ("TARSIER__GC__INTERVAL", "soon"),
            "environment variable TARSIER__GC__INTERVAL: invalid value: string \"soon\", expected a duration",
        ),
        (
            ("TARSIER__NETWORK__TRACK_PUBLIC", "::/0,x"),
            "environment variable TARSIER__NETWORK__TRACK_PUBLIC: invalid IP address syntax",
        ),
        (
            ("TARSIER__GC__INTERVALL", "1m"),
            "environment variable TARSIER__GC__INTERVALL: section gc has no such key, there are INTERVAL",
        ),
        (
            ("TARSIER__GC", "1m"),
            "environment variable TARSIER__GC: section gc has no such key, there are INTERVAL",
        ),
        (
            ("TARSIER__gc__interval", "1m"),
            "environment variable TARSIER__gc__interval: no such section, there are ADMIN, AGENT, CONNTRACK, CONTAINERS, \
             FILTERS, FQDN, GC, HOST, HTTP, IDENTITY, KERNEL, L7, LOG, METRICS, NETWORK, REGISTRY, RUNTIMES, SUPERVISOR",
        ),
        (
            ("TARSIER__RUNTIMES__DOCKER", "/a.sock"),
            "environment variable TARSIER__RUNTIMES__DOCKER: section runtimes.docker has no such key, there are \
             ENABLED, SOCKETS",
        ),
        (
            ("TARSIER__RUNTIMES__DOCKER__SOCKETS__0", "/a.sock"),
            "environment variable TARSIER__RUNTIMES__DOCKER__SOCKETS__0: runtimes.docker.sockets is a key, and has none \
             below it",
        ),
        (
            ("TARSIER__RUNTIMES__DOCKER__SOCKETS", "/a.sock,b"),
            "environment variable TARSIER__RUNTIMES__DOCKER__SOCKETS: runtimes.docker.sockets: must be paths that \
             start with /",
        ),
        (
            ("TARSIER__RUNTIMES__DOCKER__ENABLED", "yes"),
            "environment variable TARSIER__RUNTIMES__DOCKER__ENABLED: \"yes\" is not true or false",
        ),
        (
            ("TARSIER__FILTERS__DENY", "a,*"),
            "environment variable TARSIER__FILTERS__DENY: \"*\" is no regular expression: repetition operator missing \
             expression",
        ),
    ];
    for (variable, expected) in cases {
        // Others, right ones, stand around it.
        let environment = [
            ("TARSIER__AGENT__LOCK", "/a"),
            variable,
            ("TARSIER__REGISTRY__MAX_SOCKETS", "1"),
        ];
        let line = refused("gc: {interval: 5m}", &environment);
        assert_eq!(line, expected);
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let overrides = Overrides {
        admin_socket: Some(PathBuf::from("/run/".to_owned() + &"x".repeat(120))),
        ..Overrides::default()
    };
    let line = line(&merged("", &[("TARSIER__ADMIN__SOCKET", "/a")], &overrides).unwrap_err());
    assert_eq!(
        line,
        "--admin-socket: admin.socket: must be shorter than 108 bytes, the kernel takes no more"
    );
}

#[test]
fn a_named_file_must_be_there_and_the_default_one_need_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tarsier.yaml");
    let err = load(Some(&path), &Overrides::default()).unwrap_err();
    assert_eq!(
        line(&err),
        format!("cannot read {}: No such file or directory (os error 2)", path.display())
    );
    assert!(File::read_if_there(&path).unwrap().is_none());
    assert!(File::read_if_there(dir.path()).is_err());
    fs::write(&path, "kernel: {batch: 3}").unwrap();
    assert_eq!(load(Some(&path), &Overrides::default()).unwrap().kernel.batch, 3);
    assert!(File::read_if_there(&path).unwrap().is_some());
}

#[test]
fn every_rule_names_its_key() {
    type Break = fn(&mut Config);
    let broken: &[(&str, Break)] = &[
        ("http.scrape_timeout", |c| c.http.scrape_timeout = Duration::ZERO),
        ("kernel.drain_interval", |c| c.kernel.drain_interval = Duration::ZERO),
        ("kernel.totals_interval", |c| c.kernel.totals_interval = Duration::ZERO),
        ("kernel.inventory_interval", |c| {
            c.kernel.inventory_interval = Duration::ZERO
        }),
        ("kernel.retry_interval", |c| c.kernel.retry_interval = Duration::ZERO),
        ("gc.interval", |c| c.gc.interval = Duration::ZERO),
        ("supervisor.backoff_min", |c| c.supervisor.backoff_min = Duration::ZERO),
        ("supervisor.backoff_max", |c| c.supervisor.backoff_max = Duration::ZERO),
        ("supervisor.shutdown_timeout", |c| {
            c.supervisor.shutdown_timeout = Duration::ZERO
        }),
        ("supervisor.watchdog", |c| c.supervisor.watchdog = Duration::ZERO),
        ("supervisor.backoff_min", |c| {
            c.supervisor.backoff_min = Duration::from_secs(31)
        }),
        ("containers.max", |c| c.containers.max = 0),
        ("containers.max_destinations", |c| c.containers.max_destinations = 0),
        ("fqdn.max_per_container", |c| c.fqdn.max_per_container = 0),
        ("containers.max_listens", |c| c.containers.max_listens = 0),
        ("containers.max_pending", |c| c.containers.max_pending = 0),
        ("kernel.batch", |c| c.kernel.batch = 0),
        ("registry.max_processes", |c| c.registry.max_processes = 0),
        ("registry.max_sockets", |c| c.registry.max_sockets = 0),
        ("admin.socket", |c| c.admin.socket = PathBuf::new()),
        ("admin.socket", |c| c.admin.socket = PathBuf::from("x".repeat(108))),
        ("agent.lock", |c| c.agent.lock = PathBuf::new()),
        ("host.proc", |c| c.host.proc = PathBuf::new()),
        ("host.cgroup", |c| c.host.cgroup = PathBuf::new()),
        ("conntrack.cilium_maps", |c| {
            c.conntrack.cilium_maps = PathBuf::from("tc/globals")
        }),
        ("identity.cgroup_root", |c| c.identity.cgroup_root.clear()),
        ("runtimes.docker.sockets", |c| {
            c.runtimes.docker.sockets = vec![PathBuf::new()]
        }),
        ("runtimes.podman.sockets", |c| {
            c.runtimes.podman.sockets = vec![PathBuf::from("a")]
        }),
        ("runtimes.containerd.sockets", |c| {
            c.runtimes.containerd.sockets = vec![PathBuf::from("/a"), PathBuf::from("a")]
        }),
        ("runtimes.crio.sockets", |c| {
            c.runtimes.crio.sockets = vec![PathBuf::from("./a")]
        }),
        ("runtimes.systemd.sockets", |c| {
            c.runtimes.systemd.sockets = vec![PathBuf::from("/".repeat(108))]
        }),
        ("kernel.news_ring_bytes", |c| c.kernel.news_ring_bytes = ByteSize(0)),
        ("kernel.news_ring_bytes", |c| {
            c.kernel.news_ring_bytes = ByteSize((1 << 30) + 1)
        }),
        ("kernel.news_ring_bytes", |c| {
            c.kernel.news_ring_bytes = ByteSize(u64::MAX)
        }),
        ("kernel.realtime_percent", |c| c.kernel.realtime_percent = 51),
    ];
    for (key, breaks) in broken {
        let mut config = Config::default();
        breaks(&mut config);
        let invalid = config.validate().unwrap_err();
        assert_eq!(invalid.keys.first(), Some(key));
        assert!(invalid.to_string().starts_with(&format!("{key}: must ")), "{invalid}");
    }

    // The edges that are allowed.
    let mut config = Config::default();
    config.containers.min_age = Duration::ZERO;
    config.kernel.news_ring_bytes = ByteSize(1 << 30);
    config.kernel.realtime_percent = 50;
    config.admin.socket = PathBuf::from("x".repeat(107));
    config.supervisor.backoff_min = config.supervisor.backoff_max;
    assert_eq!(config.validate(), Ok(()));
}

proptest! {
    #[test]
    fn the_ring_is_the_next_power_of_two_of_at_least_a_page(bytes in 1u64..1 << 30) {
        let page = rustix::param::page_size() as u64;
        let size = ByteSize(bytes).ring_size();
        prop_assert!(size.is_power_of_two() && size >= page && size >= bytes);
        prop_assert!(size == page || size / 2 < bytes);
    }
}
