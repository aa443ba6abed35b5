//! Runs the load generators and reads what they print.
#![warn(clippy::indexing_slicing, clippy::string_slice)]
use crate::interrupt;
use anyhow::{Context as _, Result, ensure};
use std::{
    io::{Read as _, Seek as _},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tarsier_integration::{Place, Stopwatch, pause};

/// What a tool says of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Requests, connections, processes: whatever the load counts.
    pub(crate) units: f64,
    pub(crate) per_second: f64,
    /// Where the tool tells it.
    pub(crate) p99_ms: Option<f64>,
    pub(crate) errors: u64,
}

/// A command with a session of its own, so that Ctrl-C at the terminal reaches us alone, and which ends when we die.
pub(crate) fn detached(place: Place<'_>, words: &[&str]) -> Command {
    let mut command = place.command("setsid");
    command.args(["setpriv", "--pdeathsig", "TERM"]).args(words);
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end and returns what it printed.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<String> {
    // A file, for a pipe could fill up while nobody reads.
    let mut printed = tempfile::tempfile()?;
    command.stdout(printed.try_clone()?).stderr(printed.try_clone()?);
    let watch = Stopwatch::start();
    let mut tool = Ended(command.spawn().with_context(|| format!("starting {command:?}"))?);
    let status = loop {
        if let Some(status) = tool.0.try_wait()? {
            break status;
        }
        interrupt::check()?;
        ensure!(watch.elapsed() < limit, "{command:?} still runs after {limit:?}");
        pause(Duration::from_millis(5));
    };
    let mut text = String::new();
    printed.rewind()?;
    printed.read_to_string(&mut text)?;
    ensure!(status.success(), "{command:?}: {status}\n{text}");
    Ok(text)
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// `wrk --latency`
pub(crate) fn wrk(text: &str) -> Result<Outcome> {
    let read = || {
        let number = |after: &str| word_after(text, after)?.parse::<f64>().ok();
        let requests = text.lines().find(|line| line.contains(" requests in "))?;
        Some(Outcome {
            units: requests.split_whitespace().next()?.parse().ok()?,
            per_second: number("Requests/sec:")?,
            p99_ms: word_after(text, "99%").and_then(milliseconds),
            errors: socket_errors(text) + number("Non-2xx or 3xx responses:").unwrap_or(0.0) as u64,
        })
    };
    read().with_context(|| format!("not as wrk prints:\n{text}"))
}

fn socket_errors(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:"));
    let words = line.into_iter().flat_map(|line| line.split([' ', ',']));
    words.filter_map(|word| word.parse::<u64>().ok()).sum()
}

/// `redis-benchmark --csv` with one test, which does not repeat how many `requests` it was told to make.
pub(crate) fn redis(text: &str, requests: u64) -> Result<Outcome> {
    let read = || {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("\"test\""));
        let columns = |line: &str| -> Vec<String> { line.split(',').map(|cell| cell.replace('"', "")).collect() };
        let (names, values) = (columns(lines.next()?), columns(lines.next()?));
        let number = |name: &str| -> Option<f64> {
            let index = names.iter().position(|found| found == name)?;
            values.get(index)?.parse().ok()
        };
        Some(Outcome {
            units: requests as f64,
            per_second: number("rps")?,
            p99_ms: number("p99_latency_ms"),
            errors: 0,
        })
    };
    read().with_context(|| format!("not as redis-benchmark prints:\n{text}"))
}

/// `pgbench`; it tells an average, but no percentile.
pub(crate) fn pgbench(text: &str) -> Result<Outcome> {
    let read = || {
        let number = |after: &str| word_after(text, after)?.parse::<f64>().ok();
        Some(Outcome {
            units: number("number of transactions actually processed:")?,
            per_second: number("tps =")?,
            p99_ms: None,
            errors: number("number of failed transactions:")? as u64,
        })
    };
    read().with_context(|| format!("not as pgbench prints:\n{text}"))
}

/// `dnsperf`; of the latencies it tells an average.
pub(crate) fn dnsperf(text: &str) -> Result<Outcome> {
    let read = || {
        let number = |after: &str| word_after(text, after)?.parse::<f64>().ok();
        Some(Outcome {
            units: number("Queries completed:")?,
            per_second: number("Queries per second:")?,
            p99_ms: None,
            errors: number("Queries lost:")? as u64,
        })
    };
    read().with_context(|| format!("not as dnsperf prints:\n{text}"))
}

/// The word behind `prefix`, on the first line that begins so.
fn word_after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.trim().strip_prefix(prefix))?;
    rest.split_whitespace().next()
}

/// `1.96ms`, `336.00us`, `2.01s`
fn milliseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at_checked(text.find(char::is_alphabetic)?)?;
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_tells_requests_and_percentiles() {
        let outcome = wrk(include_str!("captured/wrk.txt")).unwrap();
        let expected = Outcome {
            units: 135_728.0,
            per_second: 67_825.95,
            p99_ms: Some(1.96),
            errors: 0,
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn what_wrk_could_not_do_is_counted() {
        let text = include_str!("captured/wrk.txt").replace(
            "Requests/sec",
            "  Socket errors: connect 1, read 20, write 0, timeout 3\n  Non-2xx or 3xx responses: 7\nRequests/sec",
        );
        assert_eq!(wrk(&text).unwrap().errors, 31);
    }

    #[test]
    fn redis_benchmark_tells_a_rate_and_percentiles() {
        let text = include_str!("captured/redis-benchmark.csv");
        let expected = Outcome {
            units: 100_000.0,
            per_second: 88_028.16,
            p99_ms: Some(0.575),
            errors: 0,
        };
        assert_eq!(redis(text, 100_000).unwrap(), expected);
        let warned = format!("WARNING: Could not fetch server CONFIG\n{text}");
        assert_eq!(redis(&warned, 100_000).unwrap(), expected);
    }

    #[test]
    fn pgbench_tells_transactions() {
        let text = include_str!("captured/pgbench.txt");
        let expected = Outcome {
            units: 26_131.0,
            per_second: 14_230.516_837,
            p99_ms: None,
            errors: 0,
        };
        assert_eq!(pgbench(text).unwrap(), expected);
    }

    #[test]
    fn dnsperf_tells_questions() {
        let outcome = dnsperf(include_str!("captured/dnsperf.txt")).unwrap();
        let expected = Outcome {
            units: 50_210.0,
            per_second: 50_203.318_925,
            p99_ms: None,
            errors: 2,
        };
        assert_eq!(outcome, expected);
    }

    #[test]
    fn another_text_is_an_error_and_never_a_number() {
        for text in ["", "Requests/sec:\n", "\"test\",\"rps\"\n", "tps = many\n"] {
            assert!(wrk(text).is_err() && redis(text, 1).is_err() && pgbench(text).is_err() && dnsperf(text).is_err());
        }
    }

    #[test]
    fn times_have_units() {
        let times = ["336.00us", "1.96ms", "2.50s", "1.50m"].map(milliseconds);
        assert_eq!(times, [Some(0.336), Some(1.96), Some(2500.0), Some(90_000.0)]);
        assert_eq!([milliseconds("12"), milliseconds("1.0h")], [None, None]);
    }
}
