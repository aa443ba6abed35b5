//! For tests: what is emitted keeps to what [`names`](super::names) says.
use super::names;
use prometheus::proto::{MetricFamily, MetricType};
use std::collections::BTreeSet;

/// Every family is a known one, with its type, help and labels; every series comes once, in order.
pub(crate) fn check(families: &[MetricFamily]) {
    let order: Vec<_> = families.iter().map(MetricFamily::name).collect();
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    for family in families {
        let name = family.name();
        let known = names::all().find(|known| known.name == name);
        let known = known.unwrap_or_else(|| panic!("{name} is not in the list"));
        assert_eq!(family.get_field_type(), known.kind, "{name}");
        assert_eq!(family.help(), known.help, "{name}");
        let expected: BTreeSet<_> = known.labels().collect();
        let mut seen = BTreeSet::new();
        for metric in family.get_metric() {
            let labels: Vec<_> = metric.get_label().iter().map(|pair| pair.name()).collect();
            assert!(labels.is_sorted(), "{name} {labels:?}");
            assert_eq!(labels.iter().copied().collect::<BTreeSet<_>>(), expected, "{name}");
            let values: Vec<_> = metric.get_label().iter().map(|pair| pair.value()).collect();
            assert!(seen.last().is_none_or(|last| *last < values), "{name} {values:?}");
            seen.insert(values);
            let value = match known.kind {
                MetricType::COUNTER => metric.get_counter().get_value(),
                MetricType::HISTOGRAM => metric.get_histogram().get_sample_sum(),
                _ => metric.get_gauge().get_value(),
            };
            assert!(value.is_finite(), "{name} {value}");
        }
        assert!(!seen.is_empty(), "{name}");
    }
}
