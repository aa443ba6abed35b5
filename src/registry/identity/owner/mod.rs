//! Which container a cgroup path stands for.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use crate::{
    base::ids::ContainerId,
    runtimes::{Engines, Lookup},
};
use serde::{Deserialize, Serialize};

/// Whom a cgroup path says its processes belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    Container(ContainerId),
    /// If a runtime knows it. Else, as `Standalone`.
    Perhaps(ContainerId),
    /// No container: the process stands for itself.
    Standalone,
    Ignored(IgnoredReason),
}

/// Why nobody wants to see a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IgnoredReason {
    /// It holds a container's terminal for the runtime: plumbing that would only double the number of containers.
    ContainerMonitor,
    /// It holds a pod's namespaces, and does nothing else.
    PodSandbox,
}

impl IgnoredReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContainerMonitor => "container_monitor",
            Self::PodSandbox => "pod_sandbox",
        }
    }
}

/// Total. `path` is what [`super::placement`] gives.
///
/// A container that may write cgroups can name itself what it likes below its own cgroup. Nothing here trusts a path
/// with more than a label.
pub fn owner(path: &str) -> Owner {
    told(path).map_or(Owner::Standalone, |told| told.owner)
}

/// Which runtime may know more of whom `path` names. The same rows as for [`owner`].
pub fn lookup(path: &str) -> Option<Lookup> {
    told(path)?.lookup
}

/// How [`owner`] came to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerExplained {
    /// The row that answered; `None`: none did.
    pub rule: Option<&'static str>,
    /// Those before it, which had nothing to say.
    pub passed: Vec<&'static str>,
    pub owner: Owner,
}

pub fn explain_owner(path: &str) -> OwnerExplained {
    let told = told(path);
    let rule = told.as_ref().map(|told| told.rule);
    let names = ROWS.iter().map(|(name, _)| *name);
    OwnerExplained {
        rule,
        passed: names.take_while(|name| rule != Some(name)).collect(),
        owner: told.map_or(Owner::Standalone, |told| told.owner),
    }
}

fn told(path: &str) -> Option<Told> {
    let path = Path::new(path);
    let answer = |(rule, row): &(&'static str, Row)| Some(Told { rule, ..row(&path)? });
    ROWS.iter().find_map(answer)
}

type Row = fn(&Path<'_>) -> Option<Told>;

/// The first row that answers decides.
const ROWS: [(&str, Row); 10] = [
    ("talos_init", talos_init),
    ("users_and_init", users_and_init),
    ("container_monitor", container_monitor),
    ("kubernetes", kubernetes),
    ("docker", docker),
    ("talos", talos),
    ("systemd", systemd),
    ("lxc", lxc),
    ("any_engine", any_engine),
    ("containerd_by_name", containerd_by_name),
];

/// What a row makes of a path.
struct Told {
    rule: &'static str,
    owner: Owner,
    lookup: Option<Lookup>,
}

impl Told {
    fn ask(mut self, lookup: Lookup) -> Self {
        self.lookup = Some(lookup);
        self
    }
}

impl From<Owner> for Told {
    fn from(owner: Owner) -> Self {
        Self {
            rule: "",
            owner,
            lookup: None,
        }
    }
}

struct Path<'a> {
    whole: &'a str,
    segments: Vec<&'a str>,
}

impl<'a> Path<'a> {
    fn new(whole: &'a str) -> Self {
        Self {
            whole,
            segments: whole.split('/').filter(|segment| !segment.is_empty()).collect(),
        }
    }

    fn first(&self) -> &'a str {
        self.segments.first().copied().unwrap_or_default()
    }

    /// The first segment that is not a slice: what systemd runs there.
    fn unit(&self) -> &'a str {
        self.segments
            .iter()
            .find(|segment| !segment.ends_with(".slice"))
            .copied()
            .unwrap_or_default()
    }
}

fn talos_init(path: &Path<'_>) -> Option<Told> {
    (path.whole == "/init").then(|| container(&["talos", "init"]))
}

/// Everything below a user's slice is named by that user, containers of rootless engines included: an id taken from
/// there could be that of somebody else's container.
fn users_and_init(path: &Path<'_>) -> Option<Told> {
    ["user.slice", "init.scope", "systemd"]
        .contains(&path.first())
        .then_some(Owner::Standalone.into())
}

fn container_monitor(path: &Path<'_>) -> Option<Told> {
    let monitor = |segment: &&str| segment.starts_with("crio-conmon-") || segment.starts_with("libpod-conmon-");
    path.segments
        .iter()
        .any(monitor)
        .then_some(Owner::Ignored(IgnoredReason::ContainerMonitor).into())
}

/// Of nested clusters the innermost. (The Go agent looks at a leading `docker` first, and so takes all pods of a
/// cluster that runs in Docker for the one container around them.)
fn kubernetes(path: &Path<'_>) -> Option<Told> {
    let inside = || {
        path.whole
            .rmatch_indices("kubepods")
            .filter_map(|(at, _)| path.whole.get(at..))
    };
    let with_id = inside().find_map(|text| {
        let id = hex64(text)?;
        let before = text.split_once(id).map(|(before, _)| before).unwrap_or_default();
        let told = match pod_uid(before) {
            Some(uid) => container(&["pod", &uid, short(id)]),
            None => container(&["pod", short(id)]),
        };
        Some(told.ask(by_id(id, engine_before(before))))
    });
    // gVisor keeps its containers inside one sandbox process, which sits in the cgroup of the pod.
    with_id.or_else(|| {
        inside()
            .find_map(pod_uid)
            .map(|uid| container(&["pod", &uid, "sandbox"]))
    })
}

/// The systemd driver writes the engine before the id; the cgroupfs driver does not.
fn engine_before(text: &str) -> Engines {
    const MARKS: [(&str, Engines); 5] = [
        ("crio-", Engines::Crio),
        ("cri-containerd-", Engines::Containerd),
        ("cri-containerd:", Engines::Containerd),
        ("docker-", Engines::Docker),
        ("libpod-", Engines::Podman),
    ];
    let mark = MARKS.iter().find(|(mark, _)| text.ends_with(mark));
    mark.map_or(Engines::Any, |(_, engines)| *engines)
}

/// `pod<uid>` or `kubepods-<class>-pod<uid>.slice`; systemd's names cannot hold the dashes of the uid.
fn pod_uid(text: &str) -> Option<String> {
    text.split(['/', ':', '.']).rev().find_map(|part| {
        let uid = part
            .strip_prefix("pod")
            .or_else(|| part.rsplit_once("-pod").map(|(_, uid)| uid))?;
        let valid = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_' || b == b'-');
        valid.then(|| uid.replace('_', "-"))
    })
}

/// Docker, Podman and nerdctl, under either cgroup driver. Where there is no id after the prefix, it is a service that
/// has such a name. (The Go agent gives up on `docker-registry.service`, and does not know Podman and nerdctl.)
fn docker(path: &Path<'_>) -> Option<Told> {
    const PREFIXES: [(&str, Engines); 3] = [
        ("docker-", Engines::Docker),
        ("libpod-", Engines::Podman),
        ("nerdctl-", Engines::Containerd),
    ];
    if path.first() == "docker" {
        return hex64(path.whole).map(|id| engine(id, Engines::Docker));
    }
    let unit = path.unit();
    let after = |(prefix, engines): &(&str, Engines)| Some((unit.strip_prefix(prefix)?, *engines));
    let (rest, engines) = PREFIXES.iter().find_map(after)?;
    hex64(rest).map(|id| engine(id, engines))
}

/// The services of a Talos node, which has no systemd.
fn talos(path: &Path<'_>) -> Option<Told> {
    let name = path.segments.get(1)?;
    ["system", "podruntime"]
        .contains(&path.first())
        .then(|| container(&["talos", name]))
}

/// Services by slice and name. Deeper segments are the unit's own affair, so the instances of a template fold into
/// their slice. (The Go agent takes a service for a bare process if a cgroup that the service made for itself has a
/// name in `.scope`.)
fn systemd(path: &Path<'_>) -> Option<Told> {
    const SLICES: [&str; 6] = [
        "system.slice",
        "runtime.slice",
        "reserved.slice",
        "kube.slice",
        "azure.slice",
        "podruntime.slice",
    ];
    let name = path.segments.get(1)?;
    if !SLICES.contains(&path.first()) {
        return None;
    }
    if path.unit().ends_with(".scope") {
        return Some(Owner::Standalone.into());
    }
    let service = path.segments.iter().find(|segment| segment.ends_with(".service"));
    let unit = match service.copied().unwrap_or(path.unit()) {
        // Slices all the way.
        "" => path.segments.last().copied().unwrap_or_default(),
        unit => unit,
    };
    let told = container(&[path.first(), &name.replace("\\x2d", "-")]);
    // What is true of one instance of a template is not of the slice of all.
    Some(if *name == unit {
        told.ask(Lookup::Unit { unit: unit.into() })
    } else {
        told
    })
}

fn lxc(path: &Path<'_>) -> Option<Told> {
    let name = match path.first() {
        "lxc" => path.segments.get(1).copied(),
        first => first.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()),
    };
    name.map(|name| container(&["lxc", name]))
}

/// Engines with a cgroup parent of their own: ECS, Nomad, plain containerd, Podman's cgroupfs driver. (All unknown to
/// the Go agent.) The 64 digits of a Podman pod come before those of its container.
fn any_engine(path: &Path<'_>) -> Option<Told> {
    let podman = path
        .segments
        .iter()
        .filter_map(|segment| segment.strip_prefix("libpod-"))
        .find_map(hex64);
    podman
        .map(|id| engine(id, Engines::Podman))
        .or_else(|| hex64(path.whole).map(|id| engine(id, Engines::Any)))
}

/// Where nobody says otherwise, containerd puts a container at its namespace and name. So may anything else be put
/// there: as long as containerd does not know it, it is a bare process.
fn containerd_by_name(path: &Path<'_>) -> Option<Told> {
    let &[namespace, name] = path.segments.as_slice() else {
        return None;
    };
    let possible = is_identifier(namespace) && is_identifier(name) && !namespace.ends_with(".slice");
    possible.then(|| {
        let id = format!("/containerd/{namespace}/{name}").into();
        Told::from(Owner::Perhaps(id)).ask(Lookup::Named {
            namespace: namespace.into(),
            name: name.into(),
        })
    })
}

/// As containerd checks them.
fn is_identifier(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    text.len() <= 76 && text.split(['.', '_', '-']).all(part)
}

/// The first whole word of 64 lower-case hexadecimal digits.
fn hex64(text: &str) -> Option<&str> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(digit))
}

/// As engines print ids to people.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn engine(id: &str, engines: Engines) -> Told {
    container(&["docker", short(id)]).ask(by_id(id, engines))
}

fn by_id(id: &str, engines: Engines) -> Lookup {
    Lookup::Engine { id: id.into(), engines }
}

fn container(segments: &[&str]) -> Told {
    let id: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
    Owner::Container(id.replace(char::is_control, "_").into()).into()
}

#[cfg(test)]
mod tests;
