//! Reads the Prometheus text format.
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Which end of the requests a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has sent them, to whatever destinations.
    Client,
    /// It has answered them.
    Server,
}

/// How many there are of each status.
pub type Statuses = BTreeMap<String, u64>;
/// By container.
pub type Requests = BTreeMap<String, Statuses>;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
    /// Family to type, as declared.
    pub types: BTreeMap<String, String>,
}

impl Metrics {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                if let Some((family, kind)) = comment
                    .trim()
                    .strip_prefix("TYPE ")
                    .and_then(|rest| rest.split_once(' '))
                {
                    metrics.types.insert(family.to_owned(), kind.to_owned());
                }
                continue;
            }
            metrics
                .samples
                .push(sample(line).unwrap_or_else(|| panic!("no sample: {line:?}")));
        }
        metrics
    }

    /// Samples of `name` that have all of `labels`.
    pub fn all<'a, 'b>(&'a self, name: &'b str, labels: &'b [(&'b str, &'b str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name && labels.iter().all(|(label, value)| sample.label(label) == *value)
        })
    }

    /// The value of the one sample that has all of `labels`.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.all(name, labels);
        let first = found.next()?;
        let second = found.next();
        assert!(
            second.is_none(),
            "{name}{labels:?} is not unique: {first:?} and {second:?}"
        );
        Some(first.value)
    }

    /// Added up; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|sample| sample.value).sum()
    }

    /// Requests of a protocol (`http`, `redis`, …) that were answered, of all containers.
    pub fn requests(&self, protocol: &str, end: End) -> Requests {
        let mut requests = Requests::new();
        for sample in requests_families(protocol, end, "_total").flat_map(|name| self.named(name)) {
            let statuses = requests.entry(sample.label("container_id").to_owned()).or_default();
            *statuses.entry(sample.label("status").to_owned()).or_default() += sample.value as u64;
        }
        requests
    }

    /// The same of one container.
    pub fn requests_of(&self, container: &str, protocol: &str, end: End) -> Statuses {
        self.requests(protocol, end).remove(container).unwrap_or_default()
    }

    /// How many of them are in the histograms of a container: those that took up to `le` seconds (`0.005`, …, `+Inf`).
    pub fn requests_within(&self, container: &str, protocol: &str, end: End, le: &str) -> u64 {
        let buckets = requests_families(protocol, end, "_duration_seconds_total_bucket");
        let buckets = buckets.flat_map(|name| self.named(name));
        let of = buckets.filter(|sample| sample.label("container_id") == container && sample.label("le") == le);
        of.map(|sample| sample.value as u64).sum()
    }

    fn named(&self, name: String) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The names of all series of one container.
    pub fn of_container(&self, id: &str) -> Vec<&str> {
        let of = self.samples.iter().filter(|sample| sample.label("container_id") == id);
        of.map(|sample| sample.name.as_str()).collect()
    }

    /// Whether a series of that name belongs to a family with a type.
    pub fn has_type(&self, name: &str) -> bool {
        let part_of_a_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .any(|family| self.types.get(family).is_some_and(|kind| kind == "histogram"));
        part_of_a_histogram || self.types.contains_key(name)
    }

    /// The samples whose names begin with `prefix`, as sorted lines without the labels `without`: for comparing scrapes.
    pub fn lines(&self, prefix: &str, without: &[&str]) -> Vec<String> {
        let mut lines: Vec<_> = self
            .samples
            .iter()
            .filter(|sample| sample.name.starts_with(prefix))
            .map(|sample| {
                let labels = sample
                    .labels
                    .iter()
                    .filter(|(name, _)| !without.contains(&name.as_str()));
                let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
                format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value)
            })
            .collect();
        lines.sort();
        lines
    }
}

/// A protocol has requests or queries, not both.
fn requests_families(protocol: &str, end: End, rest: &str) -> impl Iterator<Item = String> {
    let inbound = match end {
        End::Client => "",
        End::Server => "inbound_",
    };
    ["requests", "queries"]
        .map(|noun| format!("container_{protocol}_{inbound}{noun}{rest}"))
        .into_iter()
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The text up to the closing quote, unescaped, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(index + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = concat!(
        "# HELP a_total Things.\n# TYPE a_total counter\n",
        "a_total{x=\"1\",y=\"q\\\"}\\n\"} 3\na_total{x=\"2\",y=\"\"} 4.5\n\n",
        "b 7\nc_bucket{le=\"+Inf\"} +Inf\n",
    );

    #[test]
    fn labels_are_found_by_subset_and_added_up() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.value("a_total", &[("x", "1")]), Some(3.0));
        assert_eq!(metrics.value("a_total", &[("y", "q\"}\n")]), Some(3.0));
        assert_eq!(metrics.value("a_total", &[("x", "3")]), None);
        assert_eq!(metrics.sum("a_total", &[]), 7.5);
        assert_eq!(metrics.value("b", &[]), Some(7.0));
        assert_eq!(metrics.value("c_bucket", &[("le", "+Inf")]), Some(f64::INFINITY));
        assert_eq!(metrics.types["a_total"], "counter");
    }

    #[test]
    #[should_panic(expected = "not unique")]
    fn an_ambiguous_question_is_no_answer() {
        Metrics::parse(TEXT).value("a_total", &[]);
    }

    #[test]
    fn lines_are_sorted_and_leave_labels_out() {
        assert_eq!(
            Metrics::parse(TEXT).lines("a_", &["y"]),
            ["a_total{x=\"1\"} 3", "a_total{x=\"2\"} 4.5"]
        );
    }

    #[test]
    fn requests_add_up_over_destinations() {
        let text = concat!(
            "container_http_requests_total{container_id=\"/a\",destination=\"10.0.0.1:80\",status=\"2xx\"} 3\n",
            "container_http_requests_total{container_id=\"/a\",destination=\"~other\",status=\"2xx\"} 4\n",
            "container_http_requests_total{container_id=\"/a\",destination=\"~other\",status=\"5xx\"} 5\n",
            "container_http_requests_total{container_id=\"/b\",destination=\"10.0.0.1:80\",status=\"2xx\"} 6\n",
            "container_http_inbound_requests_total{container_id=\"/a\",status=\"4xx\"} 7\n",
            "container_redis_queries_total{container_id=\"/a\",destination=\"10.0.0.1:80\",status=\"ok\"} 8\n",
            "container_redis_queries_duration_seconds_total_bucket{container_id=\"/a\",destination=\"x\",le=\"0.005\"} 2\n",
            "container_redis_queries_duration_seconds_total_bucket{container_id=\"/a\",destination=\"y\",le=\"0.005\"} 3\n",
            "container_redis_queries_duration_seconds_total_bucket{container_id=\"/a\",destination=\"y\",le=\"+Inf\"} 8\n",
            "container_redis_queries_duration_seconds_total_bucket{container_id=\"/b\",destination=\"y\",le=\"0.005\"} 9\n",
        );
        let metrics = Metrics::parse(text);
        let statuses = |rows: &[(&str, u64)]| {
            rows.iter()
                .map(|(status, count)| ((*status).to_owned(), *count))
                .collect()
        };
        let expected = [
            ("/a".to_owned(), statuses(&[("2xx", 7), ("5xx", 5)])),
            ("/b".to_owned(), statuses(&[("2xx", 6)])),
        ];
        assert_eq!(metrics.requests("http", End::Client), Requests::from(expected));
        let of_a = |protocol, end| metrics.requests_of("/a", protocol, end);
        assert_eq!(of_a("http", End::Server), statuses(&[("4xx", 7)]));
        assert_eq!(of_a("redis", End::Client), statuses(&[("ok", 8)]));
        assert_eq!(of_a("redis", End::Server), BTreeMap::new());
        let within = |le| metrics.requests_within("/a", "redis", End::Client, le);
        assert_eq!((within("0.005"), within("+Inf"), within("1")), (5, 8, 0));
    }

    #[test]
    #[should_panic(expected = "no sample")]
    fn a_torn_line_is_refused() {
        Metrics::parse("a_total{x=\"1} 3\n");
    }
}
