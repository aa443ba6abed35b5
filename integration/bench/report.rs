//! From measurements to a table.
use crate::{
    measure::{Cost, Measure, Results, Timed},
    options::Options,
};
use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use std::{env, fmt::Write as _, fs, process::Command};

#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    commit: String,
    date: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%MZ"]).output();
        Self {
            cpu: model
                .map_or("unknown CPU", |text| text.trim_matches([' ', '\t', ':']))
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: env::var("BENCH_COMMIT").unwrap_or_default(),
            date: date.map_or(String::new(), |output| {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }),
        }
    }
}

pub(crate) fn json(machine: &Machine, options: &Options, results: &[Results]) -> Result<String> {
    let agents: Vec<_> = options.who.iter().map(|who| format!("{who:?}")).collect();
    let all = json!({
        "machine": machine, "rounds": options.rounds, "seconds": options.seconds, "agents": agents, "loads": results,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

const HEAD: [&str; 11] = [
    "load", "agent", "kept", "min..max", "p99 x", "CPU us", "CPU %", "BPF us", "counted", "RSS MiB", "maps MiB",
];
const LEGEND: &str = "\
kept      throughput with the agent by that without it: the median of the rounds, least and most
p99 x     the same of the 99th percentile of the latency, where the tool tells it
CPU us    of the agent itself, for each unit (request, connection, ...); CPU %: of one core
BPF us    of its programs in the kernel, for each unit, in a run of its own
counted   requests in its metrics by those made, where there are any, else connects; all rounds together
RSS MiB   before the load > after it (most so far); maps: kernel memory of its eBPF maps, which is in no RSS
";

pub(crate) fn text(machine: &Machine, options: &Options, results: &[Results]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    let mut programs = String::new();
    for result in results {
        for who in options
            .who
            .iter()
            .map(|who| who.name())
            .filter(|name| *name != "nobody")
        {
            let timed = result.timed.iter().find(|timed| timed.agent == who);
            rows.push(row(result, who, timed));
            if let Some(timed) = timed {
                programs += &runs(result, timed);
            }
        }
    }
    let Machine {
        cpu,
        cores,
        kernel,
        commit,
        date,
    } = machine;
    let (rounds, seconds) = (options.rounds, options.seconds);
    format!(
        "{cpu}, {cores} cores, Linux {kernel}, commit {commit}, {date}, {rounds} rounds of {seconds} s\n\n{}\n{LEGEND}\n\
         eBPF programs: runs per unit x ns per run\n{programs}",
        aligned(&rows)
    )
}

fn row(result: &Results, who: &str, timed: Option<&Timed>) -> [String; HEAD.len()] {
    let theirs: Vec<_> = result.measures.iter().filter(|measure| measure.agent == who).collect();
    let costs: Vec<_> = theirs.iter().filter_map(|measure| measure.cost.as_ref()).collect();
    let kept = Spread::of(ratios(result, who, |measure| Some(measure.per_second)));
    let p99 = Spread::of(ratios(result, who, |measure| measure.p99_ms));
    let cpu_us = theirs
        .iter()
        .filter_map(|measure| Some(measure.cost.as_ref()?.cpu_seconds * 1e6 / measure.units));
    let cpu_share = costs.iter().map(|cost| 100.0 * cost.cpu_seconds / cost.of_seconds);
    let bpf_us = timed.map(|timed| timed.programs.values().map(|runs| runs.ns).sum::<u64>() as f64 / 1e3 / timed.units);
    let mebibytes = |bytes: fn(&Cost) -> u64| median_of(costs.iter().map(|cost| bytes(cost) as f64 / 1_048_576.0), 1);
    let resident = format!(
        "{}>{} ({})",
        mebibytes(|cost| cost.resident_idle_bytes),
        mebibytes(|cost| cost.resident_bytes),
        mebibytes(|cost| cost.resident_peak_bytes)
    );
    [
        result.load.to_owned(),
        who.to_owned(),
        number(kept.map(|spread| spread.median), 3),
        kept.map_or("-".to_owned(), |spread| {
            format!("{:.2}..{:.2}", spread.least, spread.most)
        }),
        number(p99.map(|spread| spread.median), 2),
        median_of(cpu_us, 3),
        median_of(cpu_share, 1),
        number(bpf_us, 3),
        counted(&costs),
        resident,
        mebibytes(|cost| cost.map_bytes),
    ]
}

/// Of each round: with the agent by without.
fn ratios(result: &Results, who: &str, value: impl Fn(&Measure) -> Option<f64>) -> Vec<f64> {
    let of = |agent: &str, round| {
        let mut measures = result.measures.iter();
        value(measures.find(|measure| measure.agent == agent && measure.round == round)?)
    };
    let rounds = result.measures.iter().map(|measure| measure.round).max().unwrap_or(0);
    (1..=rounds)
        .filter_map(|round| Some(of(who, round)? / of("nobody", round)?))
        .collect()
}

fn counted(costs: &[&Cost]) -> String {
    let made: u64 = costs.iter().map(|cost| cost.made).sum();
    let counted: Option<f64> = costs.iter().map(|cost| cost.counted).sum();
    match counted {
        Some(counted) if made > 0 => format!("{:.5}", counted / made as f64),
        _ => "-".to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { least, median, most })
    }
}

fn median_of(values: impl Iterator<Item = f64>, digits: usize) -> String {
    number(Spread::of(values.collect()).map(|spread| spread.median), digits)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The dearest first; what hardly runs for this load is left out.
fn runs(result: &Results, timed: &Timed) -> String {
    let mut programs: Vec<_> = timed.programs.iter().collect();
    programs.sort_by_key(|(_, runs)| std::cmp::Reverse(runs.ns));
    let mut line = format!("{} ({}), {}:", result.load, result.unit, timed.agent);
    for (name, runs) in programs {
        let per_unit = runs.count as f64 / timed.units;
        if per_unit >= 0.001 {
            let ns = runs.ns as f64 / runs.count as f64;
            write!(line, "  {name} {per_unit:.3} x {ns:.0}").expect("a string takes everything");
        }
    }
    line + "\n"
}

fn aligned(rows: &[[String; HEAD.len()]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[index].len()).max().unwrap_or(0);
            // Words to the left, numbers to the right.
            line += &if index < 2 {
                format!("{cell:width$}  ")
            } else {
                format!("{cell:>width$}  ")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Runs;
    use std::collections::BTreeMap;

    fn measure(agent: &'static str, round: usize, per_second: f64, p99_ms: Option<f64>) -> Measure {
        let cost = (agent != "nobody").then_some(Cost {
            cpu_seconds: 0.03,
            of_seconds: 3.0,
            resident_idle_bytes: 20 << 20,
            resident_bytes: 21 << 20,
            resident_peak_bytes: 22 << 20,
            map_bytes: 3 << 19,
            made: 10_000,
            counted: Some(9_999.0),
        });
        Measure {
            agent,
            round,
            units: 3.0 * per_second,
            per_second,
            p99_ms,
            errors: 0,
            cost,
        }
    }

    fn results() -> Results {
        let measures = [(100.0, 90.0), (50.0, 49.0), (200.0, 190.0)].iter().enumerate();
        let measures = measures.flat_map(|(index, (without, with))| {
            let round = index + 1;
            [
                measure("nobody", round, *without, Some(1.0)),
                measure("tarsier", round, *with, Some(1.5)),
                measure("other", round, without / 2.0, None),
            ]
        });
        let programs = BTreeMap::from([
            ("tcp_state".to_owned(), Runs { count: 40, ns: 8_000 }),
            ("connect4".to_owned(), Runs { count: 10, ns: 9_000 }),
        ]);
        Results {
            load: "nginx-short",
            unit: "connection",
            compared: true,
            measures: measures.collect(),
            timed: vec![Timed {
                agent: "tarsier",
                units: 10.0,
                programs,
            }],
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        assert_eq!(
            ratios(&results(), "tarsier", |one| Some(one.per_second)),
            [0.9, 0.98, 0.95]
        );
        assert_eq!(ratios(&results(), "other", |one| one.p99_ms), [0.0; 0]);
    }

    #[test]
    fn a_row_has_medians_and_a_dash_for_what_is_unknown() {
        let results = results();
        let row = |who| row(&results, who, results.timed.iter().find(|timed| timed.agent == who)).join(" ");
        assert_eq!(
            row("tarsier"),
            "nginx-short tarsier 0.950 0.90..0.98 1.50 111.111 1.0 1.700 0.99990 20.0>21.0 (22.0) 1.5"
        );
        assert_eq!(
            row("other"),
            "nginx-short other 0.500 0.50..0.50 - 200.000 1.0 - 0.99990 20.0>21.0 (22.0) 1.5"
        );
    }

    #[test]
    fn programs_stand_by_their_share() {
        assert_eq!(
            runs(&results(), &results().timed[0]),
            "nginx-short (connection), tarsier:  connect4 1.000 x 900  tcp_state 4.000 x 200\n"
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.5, 4.0));
        assert_eq!(Spread::of(vec![]), None);
    }
}
