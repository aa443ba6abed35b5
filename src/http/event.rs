//! Bodies of `GET /api/v1/events`, for both ends.
use crate::{
    base::{
        ids::{ContainerId, ProcKey},
        now::Now,
    },
    decode::Comm,
    registry::lifecycle::Lifecycle,
};
use serde::{Deserialize, Serialize};

/// What the `data` of each event is: one object, on one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Of the telling, in seconds since 1970; a process may have started before the agent learned whose it is.
    pub time_unix: f64,
    #[serde(flatten)]
    pub what: What,
}

/// Its name is both in the object (`"event":"process_started"`) and in the line `event:` before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// It is known whose it is; or the agent has found it there.
    ProcessStarted {
        #[serde(flatten)]
        process: Process,
        container_id: String,
    },
    /// `null`: to one that is not watched, or of which nobody knows yet what it is.
    ProcessMoved {
        #[serde(flatten)]
        process: Process,
        container_id: Option<String>,
    },
    /// `null`: it was in none that is watched.
    ProcessExited {
        #[serde(flatten)]
        process: Process,
        container_id: Option<String>,
    },
    ContainerAppeared {
        container_id: String,
        /// No runtime is being asked for its name. If one is, a `container_identified` or `container_retired` follows.
        identified: bool,
    },
    /// It, and all that is in it, was called `was` and is called `container_id`; the same where the first name was right.
    ContainerIdentified {
        container_id: String,
        was: String,
        /// Which runtime knows it: `docker`, `podman`, `containerd`, `crio`, `systemd`; `null`: none, or not in time.
        runtime: Option<String>,
    },
    /// With all that was in it.
    ContainerRetired { container_id: String },
    /// The agent has forgotten what it told before, and tells anew what there is.
    Restarted,
    /// The last: this client has read too slowly, and that many events more would have come until now.
    Lagged { lost: u64 },
    /// The last: the agent ends.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// As the host numbers it.
    pub pid: u32,
    /// As it calls itself at that moment, up to 15 bytes; what is no UTF-8 is replaced.
    pub name: String,
    /// Its start in seconds since 1970, by the present difference of the clocks.
    pub start_unix: f64,
    /// The same in nanoseconds since boot: with the pid, it is the process. Of one that is older than the agent it may be up
    /// to 10 ms less in the first event than in later ones.
    pub start_boottime_ns: u64,
}

impl Event {
    pub(super) fn of(told: &Lifecycle, now: Now) -> Self {
        let text = |id: &ContainerId| id.to_string();
        let process = |key: &ProcKey, comm: &Comm| Process {
            pid: key.tgid,
            name: name(comm),
            start_unix: now.date_of_boottime(key.start_ns) as f64 / 1e9,
            start_boottime_ns: key.start_ns,
        };
        let what = match told {
            Lifecycle::ProcessStarted {
                process: key,
                comm,
                container,
            } => What::ProcessStarted {
                process: process(key, comm),
                container_id: text(container),
            },
            Lifecycle::ProcessMoved {
                process: key,
                comm,
                container,
            } => What::ProcessMoved {
                process: process(key, comm),
                container_id: container.as_ref().map(text),
            },
            Lifecycle::ProcessExited {
                process: key,
                comm,
                container,
            } => What::ProcessExited {
                process: process(key, comm),
                container_id: container.as_ref().map(text),
            },
            Lifecycle::ContainerAppeared { container, identified } => What::ContainerAppeared {
                container_id: text(container),
                identified: *identified,
            },
            Lifecycle::ContainerIdentified {
                container,
                was,
                runtime,
            } => What::ContainerIdentified {
                container_id: text(container),
                was: text(was),
                runtime: runtime.map(|runtime| runtime.as_str().to_owned()),
            },
            Lifecycle::ContainerRetired { container } => What::ContainerRetired {
                container_id: text(container),
            },
            Lifecycle::Restarted => What::Restarted,
        };
        Self {
            time_unix: now.wall_ns as f64 / 1e9,
            what,
        }
    }

    /// As it goes over the wire: JSON has no line breaks of its own.
    pub(super) fn wire(&self) -> String {
        let data = serde_json::to_string(self).expect("its keys are strings, its numbers finite");
        format!("event: {}\ndata: {data}\n\n", self.what.name())
    }
}

impl What {
    pub fn name(&self) -> &'static str {
        match self {
            Self::ProcessStarted { .. } => "process_started",
            Self::ProcessMoved { .. } => "process_moved",
            Self::ProcessExited { .. } => "process_exited",
            Self::ContainerAppeared { .. } => "container_appeared",
            Self::ContainerIdentified { .. } => "container_identified",
            Self::ContainerRetired { .. } => "container_retired",
            Self::Restarted => "restarted",
            Self::Lagged { .. } => "lagged",
            Self::Ended => "ended",
        }
    }
}

pub(super) fn name(comm: &Comm) -> String {
    let name = comm.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::ids::ProcKey, runtimes::Runtime};
    use serde_json::{Value, json};

    fn comm(bytes: &[u8]) -> Comm {
        let mut comm = Comm::default();
        comm[..bytes.len()].copy_from_slice(bytes);
        comm
    }

    fn told(what: Lifecycle) -> (String, Value) {
        let now = Now {
            monotonic_ns: 0,
            boottime_ns: 10_000_000_000,
            wall_ns: 1_700_000_010_500_000_000,
        };
        let event = Event::of(&what, now);
        let wire = event.wire();
        let (head, rest) = wire.split_once("\ndata: ").unwrap();
        let data = rest.strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(data).unwrap(), event, "{data}");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(head, format!("event: {}", data["event"].as_str().unwrap()));
        (head.to_owned(), data)
    }

    #[test]
    fn every_event_as_it_is_documented() {
        let process = ProcKey {
            tgid: 42,
            start_ns: 7_000_000_001,
        };
        let comm = comm(b"a\n\xff");
        let of_process = json!({"time_unix": 1_700_000_010.5, "pid": 42, "name": "a\n\u{fffd}",
            "start_unix": 1_700_000_007.5, "start_boottime_ns": 7_000_000_001_u64});
        let with = |base: &Value, more: Value| {
            let mut all = base.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let container = || "/docker/web".into();
        let (_, data) = told(Lifecycle::ProcessStarted {
            process,
            comm,
            container: container(),
        });
        let expected = json!({"event": "process_started", "container_id": "/docker/web"});
        assert_eq!(data, with(&of_process, expected));
        let (_, data) = told(Lifecycle::ProcessMoved {
            process,
            comm,
            container: None,
        });
        let expected = json!({"event": "process_moved", "container_id": null});
        assert_eq!(data, with(&of_process, expected));
        let (_, data) = told(Lifecycle::ProcessExited {
            process,
            comm,
            container: Some(container()),
        });
        let expected = json!({"event": "process_exited", "container_id": "/docker/web"});
        assert_eq!(data, with(&of_process, expected));

        let time = json!({"time_unix": 1_700_000_010.5});
        for (what, expected) in [
            (
                Lifecycle::ContainerAppeared {
                    container: container(),
                    identified: false,
                },
                json!({"event": "container_appeared", "container_id": "/docker/web", "identified": false}),
            ),
            (
                Lifecycle::ContainerIdentified {
                    container: container(),
                    was: "/docker/0123456789ab".into(),
                    runtime: Some(Runtime::Docker),
                },
                json!({"event": "container_identified", "container_id": "/docker/web", "was": "/docker/0123456789ab",
                    "runtime": "docker"}),
            ),
            (
                Lifecycle::ContainerRetired { container: container() },
                json!({"event": "container_retired", "container_id": "/docker/web"}),
            ),
            (Lifecycle::Restarted, json!({"event": "restarted"})),
        ] {
            assert_eq!(told(what).1, with(&time, expected));
        }
        let last = |what| serde_json::to_value(Event { time_unix: 0.5, what }).unwrap();
        assert_eq!(
            last(What::Lagged { lost: 7 }),
            json!({"time_unix": 0.5, "event": "lagged", "lost": 7})
        );
        assert_eq!(last(What::Ended), json!({"time_unix": 0.5, "event": "ended"}));
    }
}
