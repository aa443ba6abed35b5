//! One load, measured without and with each agent in turn.
use crate::{
    interrupt,
    loads::{Kind, Load},
    options::Options,
    programs::{Held, Runs},
    tools::Outcome,
    watcher::{Watcher, Who},
};
use anyhow::Result;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    time::Duration,
};
use tarsier_integration::{Statistics, Stopwatch, has_tool, pause};

/// An agent drains its rings this much later, at the latest.
const DRAIN: Duration = Duration::from_millis(200);
/// How long the counts may take to be complete.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measure {
    pub(crate) agent: &'static str,
    pub(crate) round: usize,
    pub(crate) units: f64,
    pub(crate) per_second: f64,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) errors: u64,
    /// None for nobody.
    pub(crate) cost: Option<Cost>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) cpu_seconds: f64,
    pub(crate) of_seconds: f64,
    pub(crate) resident_idle_bytes: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_peak_bytes: u64,
    /// Kernel memory of its eBPF maps, which is in no RSS.
    pub(crate) map_bytes: u64,
    pub(crate) made: u64,
    /// None if it says nothing about that.
    pub(crate) counted: Option<f64>,
}

/// What the agent's eBPF programs did for a number of units, while the kernel timed them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timed {
    pub(crate) agent: &'static str,
    pub(crate) units: f64,
    pub(crate) programs: BTreeMap<String, Runs>,
}

#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) load: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) compared: bool,
    pub(crate) measures: Vec<Measure>,
    pub(crate) timed: Vec<Timed>,
}

pub(crate) fn all_rounds(kind: &Kind, options: &Options) -> Result<Results> {
    let mut load = (kind.prepare)()?;
    let mut results = Results {
        load: kind.name,
        unit: kind.unit,
        compared: kind.compared,
        measures: Vec::new(),
        timed: Vec::new(),
    };
    if kind.compared {
        // The first run of anything is unlike the others.
        once(&mut *load, &Who::Nobody, 0, 1)?;
    }
    for round in 1..=options.rounds {
        let mut turns: Vec<_> = options.who.iter().collect();
        if round % 2 == 0 {
            turns.reverse();
        }
        for who in turns {
            if kind.compared || *who != Who::Nobody {
                let measure = once(&mut *load, who, round, options.seconds)?;
                tell(kind, options, &measure)?;
                results.measures.push(measure);
            }
        }
    }
    for who in options
        .who
        .iter()
        .filter(|who| **who != Who::Nobody && has_tool("bpftool"))
    {
        results.timed.push(timed(&mut *load, who, options.seconds)?);
    }
    Ok(results)
}

fn tell(kind: &Kind, options: &Options, measure: &Measure) -> Result<()> {
    let (round, rounds) = (measure.round, options.rounds);
    let (agent, per_second) = (measure.agent, measure.per_second);
    let errors = match measure.errors {
        0 => String::new(),
        count => format!(", {count} ERRORS"),
    };
    let mut out = io::stderr();
    Ok(writeln!(
        out,
        "{} {round}/{rounds} {agent}: {per_second:.0} per second{errors}",
        kind.name
    )?)
}

fn once(load: &mut dyn Load, who: &Who, round: usize, seconds: u64) -> Result<Measure> {
    interrupt::check()?;
    let watcher = Watcher::start(who)?;
    let (outcome, cost) = match &watcher {
        None => {
            load.begin()?;
            (load.run(seconds)?, None)
        }
        Some(watcher) => {
            let (outcome, cost) = watched(load, watcher, seconds)?;
            (outcome, Some(cost))
        }
    };
    load.end();
    Ok(Measure {
        agent: who.name(),
        round,
        units: outcome.units,
        per_second: outcome.per_second,
        p99_ms: outcome.p99_ms,
        errors: outcome.errors,
        cost,
    })
}

fn watched(load: &mut dyn Load, watcher: &Watcher, seconds: u64) -> Result<(Outcome, Cost)> {
    let clients = load.clients();
    let idle = watcher.memory()?;
    let metric = load.counts().unwrap_or("container_net_tcp_successful_connects_total");
    let (counted, made) = (watcher.count(metric, &clients)?, load.scene().connects());
    load.begin()?;
    pause(DRAIN);
    let (cpu, watch) = (watcher.cpu()?, Stopwatch::start());
    let outcome = load.run(seconds)?;
    pause(DRAIN);
    let (cpu_seconds, of_seconds) = ((watcher.cpu()? - cpu).as_secs_f64(), watch.elapsed().as_secs_f64());
    let memory = watcher.memory()?;
    let made = match load.counts() {
        // Their own count: the kernel has none.
        Some(_) => outcome.units as u64 + load.besides(),
        None => load.scene().connects() - made,
    };
    let counted = match counted {
        Some(before) => Some(settled(made as f64, || {
            Ok(watcher.count(metric, &clients)?.unwrap_or_default() - before)
        })?),
        None => None,
    };
    let cost = Cost {
        cpu_seconds,
        of_seconds,
        resident_idle_bytes: idle.resident_bytes,
        resident_bytes: memory.resident_bytes,
        resident_peak_bytes: memory.peak_bytes,
        map_bytes: Held::by(watcher.pid())?.map_bytes(),
        made,
        counted,
    };
    Ok((outcome, cost))
}

/// What is counted when that is all, or when patience ends.
fn settled(expected: f64, counted: impl Fn() -> Result<f64>) -> Result<f64> {
    let watch = Stopwatch::start();
    loop {
        let now = counted()?;
        if now == expected || watch.elapsed() > PATIENCE {
            return Ok(now);
        }
        interrupt::pause(Duration::from_millis(300))?;
    }
}

/// A run of its own, for taking the time of every run of a program costs time.
fn timed(load: &mut dyn Load, who: &Who, seconds: u64) -> Result<Timed> {
    let watcher = Watcher::start(who)?;
    let pid = watcher.as_ref().map_or(0, Watcher::pid);
    let _statistics = Statistics::keep()?;
    load.begin()?;
    let before = Held::by(pid)?.runs()?;
    let outcome = load.run(seconds)?;
    pause(DRAIN);
    let mut programs = Held::by(pid)?.runs()?;
    load.end();
    for (name, runs) in &mut programs {
        let earlier = before.get(name).copied().unwrap_or_default();
        // A program that an agent has replaced meanwhile starts from zero.
        runs.count = runs.count.saturating_sub(earlier.count);
        runs.ns = runs.ns.saturating_sub(earlier.ns);
    }
    programs.retain(|_, runs| runs.count > 0);
    Ok(Timed {
        agent: who.name(),
        units: outcome.units,
        programs,
    })
}
