//! Bodies of `GET /api/v1/containers/{id}/tap`, for both ends.
use crate::{
    base::now::Now,
    l7::{dialogue::Status, watch::Told},
};
use serde::{Deserialize, Serialize};

/// What the `data` of each event is: one object, on one line. Its name is both in it and in the line `event:` before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Exchange(Exchange),
    /// There were more, which this client is not told of: too many at once, or it was too slow.
    Dropped {
        exchanges: u64,
    },
    /// The last one.
    Ended {
        why: Why,
    },
}

/// A request and its reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// When it was asked, in seconds since 1970.
    pub time_unix: f64,
    /// `http`, `redis`, `postgres`.
    pub protocol: String,
    /// Of the container: `client`, or `server`.
    pub role: String,
    pub pid: u32,
    /// The other end.
    pub peer: String,
    /// `2xx` and the like, or `ok` and `failed`.
    pub status: String,
    /// HTTP's.
    pub code: Option<u16>,
    /// Until the reply began.
    pub seconds: f64,
    /// In capitals: `GET`, `SELECT`. `null`: it was asked before the tap began, or its begin was not seen.
    pub verb: Option<String>,
    /// Without literals; `null` as well unless `admin.tap` is `payload`.
    pub text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The client did not read what it was told.
    TooSlow,
    /// `admin.tap` has changed.
    Configuration,
    /// The agent ends.
    Agent,
    /// The log says why.
    Failed,
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exchange(_) => "exchange",
            Self::Dropped { .. } => "dropped",
            Self::Ended { .. } => "ended",
        }
    }

    pub(super) fn of(told: &Told, now: Now) -> Self {
        let since_ns = now.monotonic_ns.saturating_sub(told.asked_ns);
        let (status, code) = match told.status {
            Status::Ok => ("ok".to_owned(), None),
            Status::Failed => ("failed".to_owned(), None),
            Status::Code(code) => (format!("{}xx", code / 100), Some(code)),
        };
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let asked = told.asked.as_ref();
        Self::Exchange(Exchange {
            time_unix: now.wall_ns.saturating_sub(since_ns) as f64 / 1e9,
            protocol: told.between.protocol.as_str().to_owned(),
            role: told.between.role.as_str().to_owned(),
            pid: told.between.owner.process.tgid,
            peer: told.between.remote.to_string(),
            status,
            code,
            seconds: told.duration_ns as f64 / 1e9,
            verb: asked.and_then(|asked| text(&asked.verb)),
            text: asked.and_then(|asked| text(&asked.text)),
        })
    }

    /// As it goes over the wire: JSON has no line breaks of its own.
    pub(super) fn wire(&self) -> String {
        let data = serde_json::to_string(self).expect("its keys are strings, its numbers finite");
        format!("event: {}\ndata: {data}\n\n", self.name())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        base::ids::{CgroupId, NetnsId, ProcKey},
        decode::{Comm, Owner, Protocol, Role},
        l7::{Between, dialogue::Asked},
    };
    use serde_json::{Value, json};

    pub(in crate::http) fn told(tgid: u32) -> Told {
        let owner = Owner {
            process: ProcKey { tgid, start_ns: 1 },
            cgroup: CgroupId(1),
            comm: Comm::default(),
            kernel_thread: false,
        };
        Told {
            between: Between {
                owner,
                netns: NetnsId(1),
                local: "10.0.0.1:80".parse().unwrap(),
                remote: "[2001:db8::2]:4000".parse().unwrap(),
                role: Role::Server,
                protocol: Protocol::Http,
            },
            asked_ns: 1_000_000_000,
            duration_ns: 2_500_000,
            status: Status::Code(404),
            asked: Some(Asked {
                verb: "GET".into(),
                text: "/a\n?".into(),
            }),
        }
    }

    #[test]
    fn every_event_as_it_is_documented() {
        let now = Now {
            monotonic_ns: 3_000_000_000,
            boottime_ns: 0,
            wall_ns: 1_700_000_010_500_000_000,
        };
        let data = |event: &Event| {
            let wire = event.wire();
            let (head, rest) = wire.split_once("\ndata: ").unwrap();
            assert_eq!(head, format!("event: {}", event.name()));
            let data = rest.strip_suffix("\n\n").unwrap();
            assert!(!data.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(data).unwrap(), *event);
            serde_json::from_str::<Value>(data).unwrap()
        };
        let whole = json!({"event": "exchange", "time_unix": 1_700_000_008.5, "protocol": "http", "role": "server",
            "pid": 7, "peer": "[2001:db8::2]:4000", "status": "4xx", "code": 404, "seconds": 0.0025,
            "verb": "GET", "text": "/a\n?"});
        assert_eq!(data(&Event::of(&told(7), now)), whole);
        let mut failed = told(7);
        failed.status = Status::Failed;
        failed.asked.as_mut().unwrap().text = "".into();
        let event = data(&Event::of(&failed, now));
        assert_eq!((&event["status"], &event["code"]), (&"failed".into(), &Value::Null));
        assert_eq!((&event["verb"], &event["text"]), (&"GET".into(), &Value::Null));
        failed.asked = None;
        assert_eq!(data(&Event::of(&failed, now))["verb"], Value::Null);
        let dropped = json!({"event": "dropped", "exchanges": 3});
        assert_eq!(data(&Event::Dropped { exchanges: 3 }), dropped);
        let ended = json!({"event": "ended", "why": "too_slow"});
        assert_eq!(data(&Event::Ended { why: Why::TooSlow }), ended);
    }
}
