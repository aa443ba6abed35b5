//! Puts single values into families.
use super::names::Family;
use crate::metrics::families::NodeLabels;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;

pub(super) struct Series<'a> {
    node: &'a NodeLabels,
    /// On everything that is added from here on, beside the family's own labels.
    pub(super) more: Vec<(&'static str, String)>,
    families: BTreeMap<&'static str, MetricFamily>,
}

impl<'a> Series<'a> {
    pub(super) fn new(node: &'a NodeLabels) -> Self {
        Self {
            node,
            more: Vec::new(),
            families: BTreeMap::new(),
        }
    }

    /// `values` are those of the family's labels after the node's, in their order.
    pub(super) fn add<const N: usize>(&mut self, family: &Family, values: [&str; N], value: f64) {
        let mut metric = self.metric(family, values);
        if family.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.push(family, metric);
    }

    /// `counts`: by the first bound that is not below, with one more for what is above all of them.
    pub(super) fn add_histogram<const N: usize>(
        &mut self,
        family: &Family,
        values: [&str; N],
        (bounds, counts): (&[f64], &[u64]),
        sum: f64,
    ) {
        let mut histogram = Histogram::default();
        let mut so_far = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        // The encoder writes the last bucket, from the count of all.
        for (bound, count) in bounds.iter().zip(counts) {
            // A recording may say anything: nothing overflows.
            so_far = u64::saturating_add(so_far, *count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(so_far);
            buckets.push(bucket);
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().copied().fold(0, u64::saturating_add));
        histogram.set_sample_sum(sum);
        let mut metric = self.metric(family, values);
        metric.set_histogram(histogram);
        self.push(family, metric);
    }

    fn metric<const N: usize>(&self, family: &Family, values: [&str; N]) -> Metric {
        let node = [self.node.machine_id.as_str(), self.node.system_uuid.as_str()];
        debug_assert_eq!(family.labels().count(), node.len() + N, "{}", family.name);
        let pairs = family
            .labels()
            .zip(node.into_iter().chain(values))
            .chain(self.more.iter().map(|(name, value)| (*name, value.as_str())))
            .map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name(name.to_owned());
                pair.set_value(value.to_owned());
                pair
            });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        Metric::from_label(pairs)
    }

    fn push(&mut self, family: &Family, metric: Metric) {
        let into = self.families.entry(family.name).or_insert_with(|| {
            let mut made = MetricFamily::default();
            made.set_name(family.name.to_owned());
            made.set_help(family.help.to_owned());
            made.set_field_type(family.kind);
            made
        });
        into.mut_metric().push(metric);
    }

    /// In the order of the names, series in the order of their labels, each once: a scraper refuses all of a scrape
    /// that says something twice.
    pub(super) fn finish(self) -> Vec<MetricFamily> {
        let mut families: Vec<_> = self.families.into_values().collect();
        for family in &mut families {
            let metrics = family.mut_metric();
            metrics.sort_by(|a, b| values(a).cmp(values(b)));
            metrics.dedup_by(|a, b| a.get_label() == b.get_label());
        }
        families
    }
}

/// All series of a family have the same names.
fn values(metric: &Metric) -> impl Iterator<Item = &str> {
    metric.get_label().iter().map(LabelPair::value)
}
