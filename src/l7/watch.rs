//! Exchanges one by one, where somebody watches: samples, no count is made of them.
use super::{
    Between,
    dialogue::{Asked, Exchange, Status},
};
use crate::config::Pattern;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Of one reading, and of the longest text a megabyte.
const MAX_TOLD: usize = 1024;

/// Whose exchanges are told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub tgids: Arc<BTreeSet<u32>>,
    /// What was asked as well, without its literals. Otherwise its verb alone.
    pub text: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub between: Between,
    /// `CLOCK_MONOTONIC`.
    pub asked_ns: u64,
    pub duration_ns: u64,
    pub status: Status,
    /// `None`: it was asked before anybody watched, or its begin was not seen.
    pub asked: Option<Asked>,
}

/// What has been set from outside.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) leave_out: Vec<Pattern>,
    pub(super) watch: Watch,
    /// Of a body: where so many bytes are still to come, they are passed over.
    pub(super) body_bytes: u64,
}

impl Wishes {
    /// What is shown of requests may be in there.
    pub(super) fn passes_over(&self, bytes: u64, between: &Between) -> bool {
        bytes >= self.body_bytes && !(self.watch.text && self.watches(between))
    }

    pub(super) fn watches(&self, between: &Between) -> bool {
        self.watch.tgids.contains(&between.owner.process.tgid)
    }

    pub(super) fn leaves_out(&self, target: &[u8]) -> bool {
        if self.leave_out.is_empty() {
            return false;
        }
        let target = String::from_utf8_lossy(target);
        self.leave_out.iter().any(|pattern| pattern.is_match(&target))
    }
}

/// Of one reading.
#[derive(Debug, Default)]
pub(super) struct Telling {
    pub(super) told: Vec<Told>,
    /// How many found no room, by tgid.
    pub(super) left_out: BTreeMap<u32, u64>,
}

impl Telling {
    pub(super) fn tell(&mut self, between: &Between, exchange: Exchange, text: bool) {
        if self.told.len() >= MAX_TOLD {
            *self.left_out.entry(between.owner.process.tgid).or_default() += 1;
            return;
        }
        let Exchange {
            asked_ns,
            replied_ns,
            status,
            mut asked,
        } = exchange;
        // It may have been asked while more was wanted.
        if let Some(asked) = asked.as_mut().filter(|_| !text) {
            asked.text = Box::default();
        }
        self.told.push(Told {
            between: *between,
            asked_ns,
            duration_ns: replied_ns.saturating_sub(asked_ns),
            status,
            asked,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::ids::{CgroupId, NetnsId, ProcKey},
        decode::{Comm, Owner, Protocol, Role},
        l7::{Begin, Limits, Output, Part, Sessions, dialogue::Handover, dialogue::Side},
    };

    const LIMITS: Limits = Limits {
        sockets: 16,
        questions_per_socket: 16,
        questions: 16,
        stream_bytes: 4096,
        connections: 16,
        body_bytes: u64::MAX,
    };

    struct Node {
        sessions: Sessions,
        now_ns: u64,
        positions: BTreeMap<(u64, bool), u64>,
    }

    impl Node {
        fn new(watch: Watch) -> Self {
            let mut sessions = Sessions::new(LIMITS);
            sessions.watch(watch);
            Self {
                sessions,
                now_ns: 0,
                positions: BTreeMap::new(),
            }
        }

        /// Each is its own segment, on a connection of the process of that number.
        fn say(&mut self, protocol: Protocol, tgid: u32, said: &[(Side, &[u8])]) {
            for (side, payload) in said {
                self.now_ns += 1000;
                let socket = u64::from(tgid);
                let position = self.positions.entry((socket, *side == Side::Client)).or_default();
                let part = Part {
                    time_ns: self.now_ns,
                    socket,
                    between: between(protocol, tgid),
                    side: *side,
                    position: *position,
                    len: u32::try_from(payload.len()).unwrap(),
                    starts: true,
                    payload,
                    begin: (*position == 0 && *side == Side::Client).then_some(Begin {
                        from: 0,
                        other_from: 0,
                        handover: Handover::default(),
                        carried: &[],
                    }),
                };
                *position += payload.len() as u64;
                self.sessions.hear(&part);
            }
        }

        fn take(&mut self) -> Output {
            // Nothing waits for anything any more.
            self.now_ns += 1_000_000_000;
            self.sessions.take(self.now_ns)
        }
    }

    fn between(protocol: Protocol, tgid: u32) -> Between {
        let process = ProcKey { tgid, start_ns: 1 };
        Between {
            owner: Owner {
                process,
                cgroup: CgroupId(1),
                comm: Comm::default(),
                kernel_thread: false,
            },
            netns: NetnsId(1),
            local: "10.0.0.1:80".parse().unwrap(),
            remote: "10.0.0.2:4000".parse().unwrap(),
            role: Role::Server,
            protocol,
        }
    }

    fn watch(tgids: &[u32], text: bool) -> Watch {
        let tgids = Arc::new(tgids.iter().copied().collect());
        Watch { tgids, text }
    }

    const GET: &[u8] = b"GET /a?token=s3cret HTTP/1.1\r\nHost: a\r\n\r\n";
    const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\ns3cret\r\n";
    const QUERY: &[u8] = b"Q\0\0\0\x18SELECT 's3cret', 17\0";
    const ROWS: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

    fn everything(node: &mut Node, tgid: u32) {
        use Side::{Client, Server};
        node.say(Protocol::Http, tgid, &[(Client, GET), (Server, NOT_FOUND)]);
        node.say(Protocol::Redis, tgid + 1, &[(Client, SET), (Server, b"-ERR no\r\n")]);
        node.say(Protocol::Postgres, tgid + 2, &[(Client, QUERY), (Server, ROWS)]);
    }

    fn lines(output: &Output) -> Vec<String> {
        let line = |told: &Told| {
            let asked = told.asked.clone().unwrap_or_default();
            let (tgid, status) = (told.between.owner.process.tgid, told.status);
            format!("{tgid} {} {:?} {status:?}", asked.verb, asked.text)
        };
        output.told.iter().map(line).collect()
    }

    #[test]
    fn only_those_who_are_watched_and_no_more_than_is_wanted() {
        let mut node = Node::new(watch(&[1, 2, 3], false));
        everything(&mut node, 1);
        everything(&mut node, 11);
        let verbs = node.take();
        let expected = ["1 GET \"\" Code(404)", "2 SET \"\" Failed", "3 SELECT \"\" Ok"];
        assert_eq!(lines(&verbs), expected);
        assert!(!format!("{verbs:?}").contains("s3cret"));
        let times: Vec<_> = verbs
            .told
            .iter()
            .map(|told| (told.asked_ns, told.duration_ns))
            .collect();
        assert_eq!(times, [(1000, 1000), (3000, 1000), (5000, 1000)]);
        assert_eq!(verbs.exchanges.len(), 6, "all are counted");

        node.sessions.watch(watch(&[11, 12, 13], true));
        everything(&mut node, 1);
        everything(&mut node, 11);
        let texts = node.take();
        let expected = [
            "11 GET \"/a?\" Code(404)",
            "12 SET \"SET ? ?\" Failed",
            "13 SELECT \"SELECT ?, ?\" Ok",
        ];
        assert_eq!(lines(&texts), expected);
        assert!(!format!("{texts:?}").contains("s3cret"));

        node.sessions.watch(Watch::default());
        everything(&mut node, 11);
        let nothing = node.take();
        assert_eq!((nothing.told.len(), nothing.exchanges.len()), (0, 3));
    }

    #[test]
    fn what_was_asked_while_more_was_wanted_is_told_with_less() {
        let mut node = Node::new(watch(&[1], true));
        node.say(Protocol::Http, 1, &[(Side::Client, GET)]);
        node.sessions.watch(watch(&[1], false));
        node.say(Protocol::Http, 1, &[(Side::Server, NOT_FOUND)]);
        assert_eq!(lines(&node.take()), ["1 GET \"\" Code(404)"]);
    }

    #[test]
    fn what_was_asked_unwatched_has_no_verb() {
        let mut node = Node::new(Watch::default());
        node.say(Protocol::Http, 1, &[(Side::Client, GET)]);
        node.sessions.watch(watch(&[1], true));
        node.say(Protocol::Http, 1, &[(Side::Server, NOT_FOUND)]);
        let output = node.take();
        assert_eq!((output.told.len(), &output.told[0].asked), (1, &None));
    }

    #[test]
    fn no_more_than_so_many_of_a_reading_and_the_rest_is_a_number() {
        let mut node = Node::new(watch(&[1, 2], false));
        for _ in 0..MAX_TOLD {
            node.say(Protocol::Http, 1, &[(Side::Client, GET), (Side::Server, NOT_FOUND)]);
        }
        for _ in 0..3 {
            node.say(Protocol::Http, 1, &[(Side::Client, GET), (Side::Server, NOT_FOUND)]);
            node.say(Protocol::Redis, 2, &[(Side::Client, SET), (Side::Server, b"+OK\r\n")]);
        }
        let output = node.take();
        assert_eq!(output.told.len(), MAX_TOLD);
        assert_eq!(output.untold, BTreeMap::from([(1, 3), (2, 3)]));
        let counted: u64 = output.exchanges.iter().map(|of| of.latency.count()).sum();
        assert_eq!(counted, MAX_TOLD as u64 + 6);
        node.say(Protocol::Http, 1, &[(Side::Client, GET), (Side::Server, NOT_FOUND)]);
        let next = node.take();
        assert_eq!((next.told.len(), next.untold.len()), (1, 0), "each has its own bound");
    }
}
