//! An agent beside a load, ours or another: how much CPU and memory it takes, and what it has counted.
use crate::{programs::Held, tools::detached};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::SocketAddr,
    process::Child,
    time::Duration,
};
use tarsier_integration::{Agent, Metrics, Place, Stopwatch, http_get, pause};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Who {
    Nobody,
    Tarsier {
        /// More of its configuration.
        config: String,
    },
    Other {
        command: String,
        /// Without it, it is given some seconds to come up, and what it counts stays unknown.
        metrics: Option<SocketAddr>,
    },
}

impl Who {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Tarsier { .. } => "tarsier",
            Self::Other { .. } => "other",
        }
    }
}

enum Guard {
    Tarsier(Agent),
    Other { child: Child, _folder: TempDir },
}

pub(crate) struct Watcher {
    guard: Option<Guard>,
    pid: u32,
    metrics: Option<SocketAddr>,
}

impl Watcher {
    /// It collects when this returns.
    pub(crate) fn start(who: &Who) -> Result<Option<Self>> {
        match who {
            Who::Nobody => Ok(None),
            Who::Tarsier { config } => Ok(Some(Self::tarsier(config))),
            Who::Other { command, metrics } => Self::other(command, *metrics).map(Some),
        }
    }

    /// As it is by default, but exposing what is younger than `containers.min_age`.
    fn tarsier(config: &str) -> Self {
        let agent = Agent::builder()
            .config(config)
            .set("KERNEL__TOTALS_INTERVAL", "5s")
            .wrapped_in(&["setsid", "setpriv", "--pdeathsig", "TERM"])
            .start();
        Self {
            pid: agent.pid(),
            metrics: Some(agent.address()),
            guard: Some(Guard::Tarsier(agent)),
        }
    }

    fn other(command: &str, metrics: Option<SocketAddr>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tarsier-bench-").tempdir()?;
        let log = folder.path().join("log");
        let file = File::create(&log)?;
        let words = format!("exec {command}");
        let mut detached = detached(Place::new(), &["sh", "-c", &words]);
        let child = detached.stdout(file.try_clone()?).stderr(file).spawn()?;
        let mut watcher = Self {
            pid: child.id(),
            metrics,
            guard: Some(Guard::Other { child, _folder: folder }),
        };
        let up = watcher.wait_until_up();
        up.with_context(|| format!("{command}\n{}", fs::read_to_string(log).unwrap_or_default()))?;
        watcher.wait_until_it_has_loaded()?;
        Ok(watcher)
    }

    /// Its `/metrics` may answer before its programs are there: until their number has stood still for a while.
    fn wait_until_it_has_loaded(&self) -> Result<()> {
        let watch = Stopwatch::start();
        let (mut programs, mut since) = (0, Stopwatch::start());
        while watch.elapsed() < Duration::from_secs(20) && (programs == 0 || since.elapsed() < Duration::from_secs(1)) {
            let now = Held::by(self.pid)?.programs.len();
            if now != programs {
                (programs, since) = (now, Stopwatch::start());
            }
            crate::interrupt::pause(Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        loop {
            if let Some(Guard::Other { child, .. }) = &mut self.guard {
                let ended = child.try_wait()?;
                ensure!(ended.is_none(), "it ended: {ended:?}");
            }
            match self.metrics {
                Some(_) if self.scrape().is_ok() => return Ok(()),
                Some(address) => ensure!(watch.elapsed() < Duration::from_secs(60), "{address} has no /metrics"),
                None if watch.elapsed() > Duration::from_secs(5) => return Ok(()),
                None => {}
            }
            crate::interrupt::check()?;
            pause(Duration::from_millis(100));
        }
    }

    fn scrape(&self) -> Result<Option<Metrics>> {
        let Some(address) = self.metrics else { return Ok(None) };
        let response = http_get(address, "/metrics", &[], Duration::from_secs(10))?;
        ensure!(response.status == 200, "/metrics: {}", response.status);
        Ok(Some(Metrics::parse(&response.text())))
    }

    /// How many of that metric's these containers have made so far.
    pub(crate) fn count(&self, metric: &str, containers: &BTreeSet<String>) -> Result<Option<f64>> {
        let Some(metrics) = self.scrape()? else { return Ok(None) };
        let all = metrics.all(metric, &[]);
        let theirs = all.filter(|sample| containers.contains(sample.label("container_id")));
        Ok(Some(theirs.map(|sample| sample.value).sum()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let ticks = ticks(&stat).with_context(|| format!("no times in {stat:?}"))?;
        Ok(Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32)
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        Memory::read(&status).context("no sizes in /proc/PID/status")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        match self.guard.take() {
            // It ends itself as in real life; if the load has failed, its own guard is quicker.
            Some(Guard::Tarsier(agent)) if !std::thread::panicking() => drop(agent.stop()),
            Some(Guard::Other { mut child, .. }) => crate::loads::end(&mut child, rustix::process::Signal::TERM),
            _ => {}
        }
    }
}

/// User and system time of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The command's name may have blanks and brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
}

impl Memory {
    fn read(status: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        Some(Self {
            resident_bytes: field("VmRSS:")?,
            peak_bytes: field("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_times() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194560 1512 0 0 0 31 12 7 8 20 0 9 0 1180 243 5630 18446744073709551615";
        assert_eq!(ticks(stat), Some(43));
        assert_eq!(ticks("77 (a) S 1"), None);
    }

    #[test]
    fn sizes_are_read_in_bytes() {
        let status = "Name:\ttarsier\nVmPeak:\t  401000 kB\nVmHWM:\t   22528 kB\nVmRSS:\t   21504 kB\n";
        let memory = Memory::read(status).unwrap();
        assert_eq!(
            (memory.resident_bytes, memory.peak_bytes),
            (21_504 * 1024, 22_528 * 1024)
        );
        assert_eq!(Memory::read("Name:\tkthread\n"), None);
    }
}
