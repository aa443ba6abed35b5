//! Single exchanges, on their way to those who watch. Who has no room misses them, and is told how many.
use super::actor::TracerActor;
use crate::{
    base::{
        mailbox::{Depths, Dropped, offer},
        now::Now,
    },
    l7::watch::{self as l7, Told},
};
use actix::{Context, Handler, Message, Recipient};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tarsier_common::WATCHED;

#[derive(Clone, Debug)]
pub struct Tap {
    pub number: u64,
    /// Whose exchanges it wants.
    pub tgids: Arc<BTreeSet<u32>>,
    pub to: Recipient<Overheard>,
}

/// All taps there are, instead of those before.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "()")]
pub struct Watch {
    pub taps: Vec<Tap>,
    pub text: bool,
}

/// A tap's share of one reading.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Overheard {
    pub told: Vec<Told>,
    /// Since the last one that arrived.
    pub left_out: u64,
    pub now: Now,
}

pub(super) struct Taps {
    watch: Watch,
    /// What found no room, by number.
    lost: BTreeMap<u64, u64>,
    dropped: Dropped,
}

impl Taps {
    pub(super) fn new(watch: Watch, depths: &Depths) -> Self {
        Self {
            watch,
            lost: BTreeMap::new(),
            dropped: depths.dropped("tap", "Overheard"),
        }
    }

    pub(super) fn set(&mut self, watch: Watch) {
        self.watch = watch;
        let taps = &self.watch.taps;
        self.lost
            .retain(|number, _| taps.iter().any(|tap| tap.number == *number));
    }

    /// Of all of them together.
    pub(super) fn watch(&self) -> l7::Watch {
        let tgids = self.watch.taps.iter().flat_map(|tap| tap.tgids.iter().copied());
        let all: BTreeSet<u32> = tgids.collect();
        l7::Watch {
            tgids: Arc::new(all.into_iter().take(WATCHED as usize).collect()),
            text: self.watch.text,
        }
    }

    pub(super) fn share(&mut self, told: &[Told], untold: &BTreeMap<u32, u64>, now: Now) {
        for tap in &self.watch.taps {
            let is_its = |tgid: u32| tap.tgids.contains(&tgid);
            let its: Vec<_> = told
                .iter()
                .filter(|told| is_its(told.between.owner.process.tgid))
                .cloned()
                .collect();
            let missed = untold.iter().filter(|(tgid, _)| is_its(**tgid));
            let missed: u64 = missed.map(|(_, count)| count).sum();
            let left_out = missed + self.lost.remove(&tap.number).unwrap_or(0);
            if its.is_empty() && left_out == 0 {
                continue;
            }
            let count = its.len() as u64;
            let share = Overheard {
                told: its,
                left_out,
                now,
            };
            if !offer(&tap.to, share, &self.dropped) {
                self.lost.insert(tap.number, left_out + count);
            }
        }
    }
}

impl Handler<Watch> for TracerActor {
    type Result = ();

    fn handle(&mut self, message: Watch, _: &mut Context<Self>) {
        self.taps.set(message);
        self.watch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::ids::{CgroupId, NetnsId, ProcKey},
        decode::{Comm, Owner, Protocol, Role},
        l7::{Between, dialogue::Status},
    };
    use actix::{Actor, Addr, MessageResult};

    #[derive(Default)]
    struct Client(Vec<Overheard>);

    impl Actor for Client {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Context<Self>) {
            context.set_mailbox_capacity(1);
        }
    }

    impl Handler<Overheard> for Client {
        type Result = ();

        fn handle(&mut self, overheard: Overheard, _: &mut Context<Self>) {
            self.0.push(overheard);
        }
    }

    #[derive(Message)]
    #[rtype(result = "Vec<(Vec<u32>, u64)>")]
    struct Take;

    impl Handler<Take> for Client {
        type Result = MessageResult<Take>;

        fn handle(&mut self, _: Take, _: &mut Context<Self>) -> Self::Result {
            let tgids = |told: &[Told]| told.iter().map(|told| told.between.owner.process.tgid).collect();
            MessageResult(self.0.drain(..).map(|of| (tgids(&of.told), of.left_out)).collect())
        }
    }

    fn told(tgid: u32) -> Told {
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
                remote: "10.0.0.2:4000".parse().unwrap(),
                role: Role::Server,
                protocol: Protocol::Http,
            },
            asked_ns: 1,
            duration_ns: 1,
            status: Status::Code(200),
            asked: None,
        }
    }

    async fn tap(number: u64, tgids: &[u32]) -> (Addr<Client>, Tap) {
        let client = Client::default().start();
        // Lets it start, and so have its small mailbox.
        client.send(Take).await.unwrap();
        let tap = Tap {
            number,
            tgids: Arc::new(tgids.iter().copied().collect()),
            to: client.clone().recipient(),
        };
        (client, tap)
    }

    #[actix::test]
    async fn each_gets_its_own() {
        let (first, one) = tap(1, &[1, 2]).await;
        let (second, two) = tap(2, &[2, 3]).await;
        let mut taps = Taps::new(Watch::default(), &Depths::default());
        assert_eq!(taps.watch(), l7::Watch::default());
        taps.share(&[told(1)], &BTreeMap::new(), Now::default());
        taps.set(Watch {
            taps: vec![one, two.clone()],
            text: true,
        });
        let all = taps.watch();
        assert_eq!(
            (all.tgids.iter().copied().collect::<Vec<_>>(), all.text),
            (vec![1, 2, 3], true)
        );
        let untold = BTreeMap::from([(3, 7), (4, 9)]);
        taps.share(&[told(1), told(4), told(2)], &untold, Now::default());
        assert_eq!(first.send(Take).await.unwrap(), [(vec![1, 2], 0)]);
        assert_eq!(second.send(Take).await.unwrap(), [(vec![2], 7)]);
        taps.share(&[told(4)], &BTreeMap::new(), Now::default());
        assert!(first.send(Take).await.unwrap().is_empty());
        taps.set(Watch {
            taps: vec![two],
            text: false,
        });
        assert_eq!(taps.watch().tgids.len(), 2);
    }

    #[actix::test]
    async fn who_has_no_room_is_told_how_many_he_missed() {
        let (client, tap) = tap(1, &[1]).await;
        let depths = Depths::default();
        let watch = Watch {
            taps: vec![tap],
            text: false,
        };
        let mut taps = Taps::new(watch, &depths);
        for _ in 0..10 {
            taps.share(&[told(1), told(1)], &BTreeMap::new(), Now::default());
        }
        let arrived = client.send(Take).await.unwrap().len() as u64;
        assert!((1..10).contains(&arrived), "{arrived}");
        taps.share(&[], &BTreeMap::new(), Now::default());
        assert_eq!(client.send(Take).await.unwrap(), [(vec![], 2 * (10 - arrived))]);
        taps.share(&[], &BTreeMap::new(), Now::default());
        assert!(client.send(Take).await.unwrap().is_empty(), "told once");
        assert_eq!(depths.read_dropped(), [("tap", "Overheard", 10 - arrived)]);
    }
}
