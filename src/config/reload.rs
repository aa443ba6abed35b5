//! What a configuration that is read again may change, and what waits for the next start.
use super::Config;
use serde_json::Value;

/// Keys that change while the agent runs, with all below them. A key that is not among these keeps its value whatever the
/// file says by then: a half of a change would be worse than none.
pub const LIVE: [&str; 12] = [
    "http.scrape_timeout",
    "admin.tap",
    "log.level",
    "filters",
    "metrics.labels",
    "l7.dns",
    "l7.http",
    "l7.http_leave_out",
    "l7.redis",
    "l7.postgres",
    "l7.memcached",
    "l7.kernel_lane",
];

/// What came of reading it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// That of before with all that may change.
    pub config: Config,
    /// Keys whose new value holds from now on.
    pub changed: Vec<String>,
    /// Keys whose new value will hold after a restart.
    pub needs_restart: Vec<String>,
}

impl Config {
    pub fn reload(&self, read: &Self) -> Reload {
        let (before, wanted) = (json(self), json(read));
        let mut after = before.clone();
        for key in LIVE {
            let pointer = format!("/{}", key.replace('.', "/"));
            if let (Some(to), Some(from)) = (after.pointer_mut(&pointer), wanted.pointer(&pointer)) {
                to.clone_from(from);
            }
        }
        let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
        differences(&before, &after, "", &mut changed);
        differences(&after, &wanted, "", &mut needs_restart);
        let config = serde_json::from_value(after).expect("each value stood at its key in a valid config");
        Reload {
            config,
            changed,
            needs_restart,
        }
    }
}

fn json(config: &Config) -> Value {
    serde_json::to_value(config).expect("a config has no maps with odd keys")
}

/// Keys of both, in order.
fn differences(one: &Value, other: &Value, key: &str, different: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, below) in one {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                differences(below, other.get(name).unwrap_or(&Value::Null), &key, different);
            }
        }
        _ if one == other => {}
        _ => different.push(key.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Label, LogLevel};
    use std::time::Duration;

    #[test]
    fn the_same_changes_nothing() {
        let config = Config::default();
        let reload = config.reload(&config.clone());
        assert_eq!(reload.config, config);
        assert!(reload.changed.is_empty() && reload.needs_restart.is_empty());
    }

    #[test]
    fn what_may_change_does_and_the_rest_waits() {
        let before = Config::default();
        let mut read = before.clone();
        read.http.listen.set_port(1);
        read.http.scrape_timeout = Duration::from_secs(2);
        read.log.level = LogLevel::Debug;
        read.filters.deny = vec!["^/docker/".parse().unwrap()];
        read.filters.signals.tcp.allow = vec!["web".parse().unwrap()];
        read.metrics.labels = vec![Label::Pod];
        read.l7.dns = false;
        read.kernel.batch = 7;
        read.runtimes.docker.enabled = false;
        let reload = before.reload(&read);
        assert_eq!(
            reload.changed,
            [
                "filters.deny",
                "filters.signals.tcp.allow",
                "http.scrape_timeout",
                "l7.dns",
                "log.level",
                "metrics.labels"
            ]
        );
        assert_eq!(
            reload.needs_restart,
            ["http.listen", "kernel.batch", "runtimes.docker.enabled"]
        );
        let mut expected = read.clone();
        (expected.http.listen, expected.kernel.batch) = (before.http.listen, before.kernel.batch);
        expected.runtimes.docker.enabled = true;
        assert_eq!(reload.config, expected);
        // What waits is named again, and what has changed is not.
        let again = reload.config.reload(&read);
        assert!(again.changed.is_empty());
        assert_eq!(again.needs_restart, reload.needs_restart);
    }

    /// A key that is renamed must not fall out of the list in silence.
    #[test]
    fn every_key_of_the_list_is_there() {
        let config = json(&Config::default());
        for key in LIVE {
            assert!(
                config.pointer(&format!("/{}", key.replace('.', "/"))).is_some(),
                "{key}"
            );
        }
    }

    /// In the shipped file the keys of the list are marked, and no others.
    #[test]
    fn the_shipped_file_says_which_keys_are_live() {
        let (mut path, mut marked) = (Vec::new(), Vec::new());
        let mut mark = None;
        for line in include_str!("../../configs/tarsier.yaml").lines() {
            let text = line.trim_start();
            let depth = (line.len() - text.len()) / 2;
            if text.starts_with('#') {
                if text.ends_with("(reload)") {
                    mark = Some(depth);
                }
            } else if let Some((key, _)) = text.split_once(':') {
                path.truncate(depth);
                path.push(key);
                if mark.take() == Some(depth) {
                    marked.push(path.join("."));
                }
            }
        }
        assert_eq!(marked, LIVE);
    }
}
