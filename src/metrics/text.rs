//! The text format, version 0.0.4.
use prometheus::{TextEncoder, proto::MetricFamily};

pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// In the order of the names. The encoder escapes label values; a `String` is UTF-8 as it is.
pub fn encode(mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let encoded = TextEncoder::new().encode_to_string(&families);
    encoded.expect("a family with a name and a series can be written to memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_family_is_left_out() {
        let mut family = MetricFamily::default();
        family.set_name("a".to_owned());
        assert_eq!(encode(vec![family]), "");
    }
}
