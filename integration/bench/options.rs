//! What may be set, by the environment.
use crate::{
    loads::{self, Kind},
    watcher::Who,
};
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) loads: Vec<&'static Kind>,
    /// Nobody first, then whom to compare with that.
    pub(crate) who: Vec<Who>,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// An empty value is none: make passes what nobody has set.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name| variable(name).filter(|value| !value.trim().is_empty());
        let number = |name, otherwise: u64| -> Result<u64> {
            let Some(text) = set(name) else { return Ok(otherwise) };
            let number = text.trim().parse().with_context(|| format!("{name}={text}"))?;
            ensure!(number > 0, "{name}={text}");
            Ok(number)
        };
        let config = set("BENCH_CONFIG").unwrap_or_default();
        let mut who = vec![Who::Nobody, Who::Tarsier { config }];
        if let Some(command) = set("BENCH_OTHER") {
            let address =
                set("BENCH_OTHER_METRICS").map(|text| text.parse().context(format!("BENCH_OTHER_METRICS={text}")));
            who.push(Who::Other {
                command,
                metrics: address.transpose()?,
            });
        }
        Ok(Self {
            rounds: number("ROUNDS", 5)? as usize,
            seconds: number("SECONDS", 3)?,
            loads: named(&set("BENCH").unwrap_or_default())?,
            who,
            json: set("BENCH_JSON").map(PathBuf::from),
        })
    }
}

/// All if none is named.
fn named(text: &str) -> Result<Vec<&'static Kind>> {
    let words: Vec<_> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let known: Vec<_> = loads::ALL.iter().map(|kind| kind.name).collect();
    for word in &words {
        ensure!(
            known.contains(word),
            "BENCH: no load {word:?}; there are {}",
            known.join(" ")
        );
    }
    let wanted = |kind: &&Kind| words.is_empty() || words.contains(&kind.name);
    Ok(loads::ALL.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Options> {
        Options::read(|name| {
            let found = set.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn by_default_all_loads_and_no_other_agent() {
        let options = read(&[("ROUNDS", ""), ("BENCH", " ")]).unwrap();
        assert_eq!((options.rounds, options.seconds), (5, 3));
        assert_eq!(options.loads.len(), loads::ALL.len());
        let config = String::new();
        assert_eq!(options.who, [Who::Nobody, Who::Tarsier { config }]);
    }

    #[test]
    fn loads_and_another_agent_can_be_named() {
        let set = [
            ("BENCH", "storm redis"),
            ("BENCH_OTHER", "agent --listen 127.0.0.1:19400"),
            ("BENCH_OTHER_METRICS", "127.0.0.1:19400"),
        ];
        let options = read(&set).unwrap();
        let names: Vec<_> = options.loads.iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["redis", "storm"]);
        assert_eq!(options.who.last().unwrap().name(), "other");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [("ROUNDS", "0"), ("SECONDS", "x"), ("BENCH", "apache")] {
            let error = read(&[wrong]).err().unwrap();
            assert!(format!("{error:#}").contains(wrong.1), "{error:#}");
        }
    }
}
