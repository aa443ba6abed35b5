//! Agents, and how each is asked.
use crate::host::Host;
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tarsier_integration::{Agent, Feature, Metrics, Script, free_port, http_get, of_dockerfile, shipped};

const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const IMAGE: &str = "docker.io/library/tarsier:0.1.0";

pub(crate) enum Watching<'a> {
    Outside(Agent),
    Inside {
        name: &'static str,
        engine: &'a Script,
        client: &'static str,
        address: SocketAddr,
    },
}

impl Watching<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Outside(_) => "outside",
            Self::Inside { name, .. } => name,
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Outside(agent) => agent.address(),
            Self::Inside { address, .. } => *address,
        }
    }

    /// `None`: it does not answer yet.
    pub(crate) fn features(&self) -> Option<BTreeMap<String, Feature>> {
        let answer = http_get(self.address(), "/readyz", &[], PATIENCE).ok()?;
        let rows = Feature::rows(&answer).into_iter();
        Some(rows.map(|row| (row.name.clone(), row)).collect())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let answer = http_get(self.address(), "/metrics", &[], PATIENCE);
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error:#}", self.name()));
        Metrics::parse(&answer.text())
    }

    /// As a person asks: from inside.
    pub(crate) fn container(&self, id: &str) -> Value {
        match self {
            Self::Outside(agent) => agent.admin(&format!("/api/v1/containers{id}")),
            Self::Inside {
                name, engine, client, ..
            } => {
                let ask = [client, "exec", name, "/usr/bin/tarsier", "inspect", id, "--json"];
                serde_json::from_str(&engine.run(&ask)).unwrap()
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::Outside(agent) => agent.log(),
            Self::Inside {
                name, engine, client, ..
            } => engine.run(&[client, "logs", name]),
        }
    }
}

/// What the documents say for an agent in a container.
pub(crate) struct Documented {
    /// The README's command, without its first word.
    command: Vec<String>,
    /// What is more to be said where the first process is out of sight.
    mounts: Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    text.split_whitespace().map(str::to_owned).collect()
}

/// Of the first block of commands after `begin`.
fn block(document: &str, begin: &str) -> String {
    let at = document.find(begin).unwrap_or_else(|| panic!("{begin:?} is not there"));
    let block = document[at..]
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    block.expect("there is a block").to_owned()
}

impl Documented {
    pub(crate) fn read() -> Self {
        let mut command = words(&block(&shipped("README.md"), "By hand, in one container"));
        assert_eq!(command.remove(0), "docker");
        let document = shipped("docs/in-a-container.md");
        let mounts = words(&block(&document, "## Where the first process is out of sight"));
        assert!(command.len() > 10 && mounts.len() > 5, "{command:?} {mounts:?}");
        Self { command, mounts }
    }

    /// With what this host has, where the document names what a host has.
    pub(crate) fn mounts(&self, host: &Host) -> Vec<String> {
        let own = |word: &String| {
            let root = host.root.path().display();
            word.replace("src=/run,", &format!("src={root}/run,"))
                .replace("/etc/machine-id:/host", &format!("{root}/etc/machine-id:/host"))
                .replace("/etc/hostname:/host", &format!("{root}/etc/hostname:/host"))
                .replace("/proc/1/", &format!("/proc/{}/", host.first()))
        };
        self.mounts.iter().map(own).collect()
    }

    /// `change` has the words as they are documented; `more` stands behind them.
    pub(crate) fn run<'a>(
        &self,
        (client, engine): (&'static str, &'a Script),
        name: &'static str,
        change: impl FnOnce(&mut Vec<String>),
        more: &[String],
    ) -> Watching<'a> {
        let mut words = self.command.clone();
        let image = words.pop().expect("it has words");
        assert!(IMAGE.ends_with(&image), "{image}");
        assert_eq!(words.remove(0), "run");
        change(&mut words);
        let port = free_port();
        for word in &mut words {
            *word = word.replace("10300:10300", &format!("{port}:10300"));
        }
        // On the host's network there is nothing to publish, and the usual port may be another's.
        let published = words.iter().any(|word| word.ends_with(":10300"));
        let listen = format!("TARSIER__HTTP__LISTEN=0.0.0.0:{port}");
        let settings = [
            "TARSIER__CONTAINERS__MIN_AGE=0s",
            "TARSIER__KERNEL__TOTALS_INTERVAL=1s",
            "TARSIER__KERNEL__FILES_INTERVAL=1s",
            listen.as_str(),
        ];
        let settings = &settings[..settings.len() - usize::from(published)];
        let settings = settings.iter().flat_map(|setting| ["-e", setting]);
        let command = [of_dockerfile("ENTRYPOINT"), of_dockerfile("CMD")].concat();
        let words = words.iter().chain(more).map(String::as_str);
        let mut all = vec![client, "run", "-d", "--name", name];
        all.extend(
            words
                .chain(settings)
                .chain([IMAGE])
                .chain(command.iter().map(String::as_str)),
        );
        engine.run(&all);
        Watching::Inside {
            name,
            engine,
            client,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

/// Of a Docker that does not know two of the capabilities.
pub(crate) fn older_engine(words: &mut Vec<String>) {
    let at = |words: &[String], name: &str| words.iter().position(|word| word == name).expect("it is given");
    let bpf = at(words, "BPF");
    words[bpf] = "SYS_ADMIN".to_owned();
    let perfmon = at(words, "PERFMON");
    words.drain(perfmon - 1..=perfmon);
}

pub(crate) fn without(words: &mut Vec<String>, flag: &str) {
    let at = words.iter().position(|word| word == flag).expect("it is given");
    words.drain(at..=at + 1);
}
