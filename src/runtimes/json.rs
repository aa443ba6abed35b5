//! JSON of strangers: read once, and what nobody wants takes no memory.
use super::metadata::{limits, tells_identity};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Of an object with string values the entries that labels may be made of, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(Vec<(String, String)>);

impl Labels {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let (mut labels, mut counts) = (Vec::new(), [0; 2]);
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    let [others, first] = &mut counts;
                    let count = if tells_identity(&key) { first } else { others };
                    let fits = key.len() <= limits::KEY_BYTES && value.len() <= limits::VALUE_BYTES;
                    if fits && *count < limits::LABELS {
                        *count += 1;
                        labels.push((key, value));
                    }
                }
                Ok(Labels(labels))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// What there may be many of, and few are wanted.
pub(super) trait Item {
    const MOST: usize;

    fn wanted(&self) -> bool;
}

/// Of a list the first that are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Few<T>(pub(super) Vec<T>);

impl<'de, T: Item + Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Item + Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Few<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
                let mut few = Vec::new();
                while let Some(item) = list.next_element::<T>()? {
                    if few.len() < T::MOST && item.wanted() {
                        few.push(item);
                    }
                }
                Ok(Few(few))
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// Something of the host in a container. What the runtime only mounts by name (`proc`, `tmpfs`) is not wanted.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Mount {
    #[serde(alias = "container_path")]
    destination: String,
    #[serde(default, alias = "host_path")]
    source: Option<String>,
}

impl Item for Mount {
    const MOST: usize = limits::MOUNTS;

    fn wanted(&self) -> bool {
        let source = self.source.as_deref().unwrap_or_default();
        source.starts_with('/') && source.len().max(self.destination.len()) <= limits::VALUE_BYTES
    }
}

impl Few<Mount> {
    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        let mounts = self.0.into_iter();
        mounts
            .map(|mount| (mount.destination, mount.source.unwrap_or_default()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_identity_find_room_behind_thousands() {
        let many: String = (0..10_000).map(|i| format!("\"a{i}\":\"x\",")).collect();
        let huge = "x".repeat(1 << 20);
        let text = format!(r#"{{{many}"huge":"{huge}","{huge}":"","io.kubernetes.pod.name":"we\"b/0"}}"#);
        let labels: Labels = serde_json::from_str(&text).unwrap();
        assert_eq!(labels.0.len(), limits::LABELS + 1);
        assert_eq!(labels.iter().last(), Some(("io.kubernetes.pod.name", "we\"b/0")));
    }

    #[test]
    fn an_item_of_another_type_is_no_list() {
        for text in ["[1]", "{}", "\"\"", "[", "[{\"source\":\"/\"}]"] {
            assert!(serde_json::from_str::<Few<Mount>>(text).is_err(), "{text}");
        }
        for text in ["[]", "{\"a\":1}", "{\"a\":null}", "{\"a\":\"b\""] {
            assert!(serde_json::from_str::<Labels>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_are_of_the_host_and_few() {
        let many: String = (0..10_000)
            .map(|i| format!(r#",{{"container_path":"/{i}","host_path":"/h"}}"#))
            .collect();
        let text = format!(
            r#"[{{"destination":"/proc","source":"proc"}},{{"destination":"/data","source":"/srv"}},{{"destination":"/x"}}{many}]"#
        );
        let mounts = serde_json::from_str::<Few<Mount>>(&text).unwrap().into_map();
        assert_eq!(mounts.len(), limits::MOUNTS);
        assert_eq!(mounts["/data"], "/srv");
        assert!(!mounts.contains_key("/proc") && !mounts.contains_key("/x"));
    }
}
