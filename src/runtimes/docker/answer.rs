//! What an engine says of a container, read leniently: a field of the wrong type is one that is missing, and nothing is
//! copied before its size is known.
use crate::runtimes::{
    Runtime,
    metadata::{LogFile, LogFormat, Metadata, Published, limits},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Of a list or an object that has more, the rest is skipped.
const MAX_ITEMS: usize = 65_536;

/// `None`: it is not about `id`, whatever it is.
pub(super) fn container(runtime: Runtime, id: &str, body: &str) -> Option<Metadata> {
    let answer = Object::of(body)?;
    if answer.text("Id")? != id {
        return None;
    }
    let config = answer.object("Config");
    let mut metadata = Metadata::new(runtime);
    metadata.set_name(&answer.text("Name").unwrap_or_default());
    let image = config.text("Image").or_else(|| answer.text("Image"));
    metadata.image = image.filter(fits).unwrap_or_default().into_owned();
    let labels = config.object("Labels");
    let labels: Vec<_> = labels
        .0
        .iter()
        .filter_map(|(key, value)| Some((key, text(value)?)))
        .collect();
    metadata.set_labels(labels.iter().map(|(key, value)| (key.as_ref(), value.as_ref())));
    let environment: Vec<_> = config.list("Env").into_iter().filter_map(text).collect();
    metadata.set_environment(environment.iter().map(AsRef::as_ref));
    metadata.pid = answer.object("State").number("Pid").unwrap_or(0);
    metadata.log = log(runtime, &answer);
    metadata.mounts = answer
        .list("Mounts")
        .into_iter()
        .filter_map(mount)
        .take(limits::MOUNTS)
        .collect();
    let ports = answer.object("NetworkSettings").object("Ports");
    let published = ports.0.iter().flat_map(|(port, hosts)| published(port, hosts));
    metadata.published = published.take(limits::PUBLISHED).collect();
    metadata.published.sort_unstable();
    metadata.published.dedup();
    metadata.sandbox = match runtime {
        Runtime::Podman => is_infra(&metadata.name),
        _ => metadata
            .labels
            .get("io.kubernetes.docker.type")
            .is_some_and(|kind| kind == "podsandbox"),
    };
    Some(metadata)
}

fn fits(text: &impl AsRef<str>) -> bool {
    text.as_ref().len() <= limits::VALUE_BYTES
}

/// Docker writes its own format to the file; what Podman calls json-file is the format of the CRI.
fn log(runtime: Runtime, answer: &Object<'_>) -> Option<LogFile> {
    let kind = answer.object("HostConfig").object("LogConfig").text("Type")?;
    let format = match (runtime, kind.as_ref()) {
        (Runtime::Podman, "json-file" | "k8s-file") => LogFormat::Cri,
        (Runtime::Podman, _) => return None,
        (_, "json-file") => LogFormat::DockerJson,
        _ => return None,
    };
    let path = answer.text("LogPath").filter(fits)?;
    (!path.is_empty()).then(|| LogFile {
        path: path.as_ref().into(),
        format,
    })
}

fn mount(mount: &RawValue) -> Option<(String, String)> {
    let mount = Object::of(mount.get())?;
    let destination = mount.text("Destination").filter(fits)?;
    let source = mount.text("Source").filter(fits)?;
    Some((destination.into_owned(), source.into_owned()))
}

/// `80/tcp` and where on the host.
fn published(port: &str, hosts: &RawValue) -> Vec<Published> {
    let Some(port) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else {
        return Vec::new();
    };
    let host = |host: &RawValue| {
        let host = Object::of(host.get())?;
        let at: u16 = host.text("HostPort")?.parse().ok()?;
        let address = match host.text("HostIp").unwrap_or_default().as_ref() {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            address => address.parse().ok()?,
        };
        (at != 0).then(|| Published {
            host: SocketAddr::new(address, at),
            port,
        })
    };
    list(hosts.get()).into_iter().filter_map(host).collect()
}

/// Podman calls the container that holds the namespaces of a pod by the pod's short id.
fn is_infra(name: &str) -> bool {
    let pod = name.strip_suffix("-infra");
    pod.is_some_and(|pod| pod.len() == 12 && pod.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text<'a>(value: &'a RawValue) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Text<'a>>(value.get()).ok().map(|text| text.0)
}

/// Fields in the order in which they came.
#[derive(Default)]
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    fn of(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    fn number(&self, name: &str) -> Option<u32> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    fn object(&self, name: &str) -> Self {
        let found = self.get(name).and_then(|value| Self::of(value.get()));
        found.unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<&'a RawValue> {
        self.get(name).map(|value| list(value.get())).unwrap_or_default()
    }
}

fn list(text: &str) -> Vec<&RawValue> {
    serde_json::from_str::<List<'_>>(text)
        .map(|list| list.0)
        .unwrap_or_default()
}

struct List<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while fields.len() < MAX_ITEMS {
                    let Some((Text(key), value)) = map.next_entry()? else {
                        return Ok(Object(fields));
                    };
                    fields.push((key, value));
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX_ITEMS {
                    let Some(item) = list.next_element()? else {
                        return Ok(List(items));
                    };
                    items.push(item);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(items))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn whole() -> Value {
        json!({
            "Id": ID, "Name": "/web", "Image": "sha256:1", "LogPath": "/var/lib/docker/x-json.log",
            "State": { "Pid": 42 },
            "Config": {
                "Image": "nginx:1", "Env": ["A=1", "NOMAD_JOB_NAME=shop"], "Labels": { "team": "x", "io.kubernetes.pod.name": "w" },
            },
            "HostConfig": { "LogConfig": { "Type": "json-file" } },
            "Mounts": [{ "Source": "/srv", "Destination": "/data" }],
            "NetworkSettings": { "Ports": {
                "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "8080" }],
                "443/tcp": [{ "HostIp": "", "HostPort": "8443" }],
                "53/udp": [{ "HostIp": "0.0.0.0", "HostPort": "53" }],
                "9000/tcp": null,
            } },
        })
    }

    fn read(answer: &Value) -> Option<Metadata> {
        container(Runtime::Docker, ID, &answer.to_string())
    }

    #[test]
    fn all_that_is_used() {
        let found = read(&whole()).unwrap();
        assert_eq!(
            (found.name.as_str(), found.image.as_str(), found.pid),
            ("web", "nginx:1", 42)
        );
        assert_eq!(found.labels["team"], "x");
        assert_eq!(found.environment.len(), 1);
        assert_eq!(found.mounts["/data"], "/srv");
        let log = found.log.unwrap();
        assert_eq!(
            (log.path.to_str().unwrap(), log.format),
            ("/var/lib/docker/x-json.log", LogFormat::DockerJson)
        );
        let published: Vec<_> = found
            .published
            .iter()
            .map(|p| format!("{} {}", p.host, p.port))
            .collect();
        assert_eq!(published, ["0.0.0.0:8080 80", "0.0.0.0:8443 443", "[::]:8080 80"]);
        assert!(!found.sandbox);
    }

    #[test]
    fn of_another_container_or_none() {
        assert_eq!(
            container(Runtime::Docker, &ID.replace('0', "f"), &whole().to_string()),
            None
        );
        for body in ["", "[]", "null", "{", "{}", r#"{"Id":7}"#, "\0\0"] {
            assert_eq!(container(Runtime::Docker, ID, body), None, "{body}");
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_costs_that_field() {
        let answer = whole();
        for field in [
            "Name",
            "Image",
            "LogPath",
            "State",
            "Config",
            "HostConfig",
            "Mounts",
            "NetworkSettings",
        ] {
            for wrong in [json!(null), json!(7), json!([1, {}]), json!({ "x": [] }), json!("x")] {
                let mut answer = answer.clone();
                answer[field] = wrong;
                let found = read(&answer).unwrap();
                assert!(field == "Name" || found.name == "web", "{field}");
                assert!(field == "Mounts" || found.mounts.len() == 1, "{field}");
                assert!(field == "Config" || found.labels.len() == 2, "{field}");
            }
        }
        let mut answer = answer;
        answer["Config"]["Labels"]["broken"] = json!({});
        answer["Config"]["Env"][0] = json!(1);
        let found = read(&answer).unwrap();
        assert_eq!((found.labels.len(), found.environment.len()), (2, 1));
    }

    #[test]
    fn thousands_of_labels_and_huge_values() {
        let mut answer = whole();
        let labels = answer["Config"]["Labels"].as_object_mut().unwrap();
        labels.extend((0..10_000).map(|i| (format!("a{i}"), json!("x"))));
        labels.insert("huge".to_owned(), json!("x".repeat(1 << 20)));
        answer["Name"] = json!("é".repeat(1 << 16));
        answer["LogPath"] = json!("/x".repeat(1 << 16));
        answer["Mounts"] = Value::Array(
            (0..1000)
                .map(|i| json!({ "Source": "/s", "Destination": format!("/{i}") }))
                .collect(),
        );
        let found = read(&answer).unwrap();
        assert_eq!(found.labels.len(), limits::LABELS);
        assert!(found.labels.contains_key("io.kubernetes.pod.name"));
        assert_eq!(found.mounts.len(), limits::MOUNTS);
        assert!(found.name.len() <= limits::NAME_BYTES && found.log.is_none());
        let nested = format!(
            r#"{{"Id":"{ID}","Config":{}1{}}}"#,
            "[".repeat(1 << 20),
            "]".repeat(1 << 20)
        );
        assert_eq!(
            container(Runtime::Docker, ID, &nested).unwrap(),
            Metadata::new(Runtime::Docker)
        );
    }

    #[test]
    fn who_holds_a_pod() {
        let mut answer = whole();
        answer["Config"]["Labels"] = json!({ "io.kubernetes.docker.type": "podsandbox" });
        assert!(read(&answer).unwrap().sandbox);
        answer["Name"] = json!("/0a1b2c3d4e5f-infra");
        answer["Config"]["Labels"] = json!({});
        assert!(!read(&answer).unwrap().sandbox);
        let found = container(Runtime::Podman, ID, &answer.to_string()).unwrap();
        assert!(found.sandbox);
        assert_eq!(found.log.unwrap().format, LogFormat::Cri);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(cut in 0_usize..700, garbage in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = whole().to_string().into_bytes();
            let at = cut.min(bytes.len());
            bytes.splice(at..(at + garbage.len() / 2).min(bytes.len()), garbage);
            container(Runtime::Docker, ID, &String::from_utf8_lossy(&bytes));
        }
    }
}
