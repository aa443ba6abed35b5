//! Any order of anything.
use super::*;
use crate::registry::effects::Effects;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Event(Event),
    AnswerCgroup(u64, bool),
    AnswerProcess(u32, bool),
    AnswerApplication(u32, bool),
    Inventory(Vec<u32>),
    Tick,
    Garbage,
}

fn any_owner() -> impl Strategy<Value = Owner> {
    (1u32..8, 1u64..5).prop_map(|(tgid, cgroup)| owner(tgid, CgroupId(cgroup), "app"))
}

fn any_event() -> impl Strategy<Value = Event> {
    (0u8..11, any_owner(), 1u64..12, 1u32..8, any::<bool>()).prop_map(|(what, owner, cookie, parent, flag)| {
        let socket = |listening| SocketEvent {
            listening,
            shown: flag,
            ..socket(cookie, owner)
        };
        let process = ProcessEvent {
            legacy_hierarchy: flag,
            oom_killed: flag,
            ..process(owner, parent)
        };
        let cgroup = CgroupEvent {
            cgroup: owner.cgroup,
            path: flag.then(|| "/system.slice/x.service".to_owned()),
        };
        match what {
            0 => Event::ProcessStarted(process),
            1 => Event::ProcessExec(process),
            2 => Event::ProcessExited(process),
            3 => Event::CgroupMoved(process),
            4 => Event::CgroupMade(cgroup),
            6 => Event::ConnectionClosed(socket(false)),
            7 => Event::ConnectionFailed(socket(false)),
            8 => Event::ListenOpened(socket(true)),
            9 => Event::ListenClosed(socket(true)),
            10 => Event::SocketSeen(socket(flag)),
            _ => Event::SocketSeen(socket(false)),
        }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any_event().prop_map(Step::Event),
        2 => (2u64..5, any::<bool>()).prop_map(|(cgroup, known)| Step::AnswerCgroup(cgroup, known)),
        2 => (1u32..8, any::<bool>()).prop_map(|(tgid, known)| Step::AnswerProcess(tgid, known)),
        1 => (1u32..8, any::<bool>()).prop_map(|(tgid, known)| Step::AnswerApplication(tgid, known)),
        1 => prop::collection::vec(1u32..8, 0..8).prop_map(Step::Inventory),
        1 => Just(Step::Tick),
        1 => Just(Step::Garbage),
    ]
}

fn accounted(effects: &Effects) -> u64 {
    let shares: u64 = effects.shares.values().map(|share| share.counts.total()).sum();
    effects.outcome.delivered.total() + effects.outcome.dropped.len() as u64 + shares
}

proptest! {
    /// Whatever comes in whatever order: every event of the ledger is accounted for once, no connection is active twice
    /// or after its end, and processes are where the index says.
    #[test]
    fn every_event_ends_somewhere_once(steps in prop::collection::vec(any_step(), 0..80)) {
        let mut registry = registry();
        let mut open = BTreeMap::new();
        for (second, step) in steps.into_iter().enumerate() {
            let at = now(second as u64 + 1);
            match step {
                Step::Event(event) => {
                    match &event {
                        Event::SocketSeen(event) if !event.listening => { open.insert(event.socket, ()); }
                        Event::ConnectionClosed(event) => { open.remove(&event.socket); }
                        _ => {}
                    }
                    let expected = u64::from(event.kind().is_some());
                    let effects = registry.apply([event], at);
                    prop_assert_eq!(accounted(&effects), expected);
                }
                Step::AnswerCgroup(cgroup, known) => {
                    let path = known.then(|| "/system.slice/x.service".into());
                    let effects = registry.answer(Answer::Cgroup { cgroup: CgroupId(cgroup), path }, at);
                    prop_assert_eq!(accounted(&effects), 0);
                }
                Step::AnswerProcess(tgid, known) => {
                    let process = owner(tgid, ROOT, "app").process;
                    let path = known.then(|| "/system.slice/y.service".into());
                    registry.answer(Answer::Process { process, path }, at);
                }
                Step::AnswerApplication(tgid, known) => {
                    let process = owner(tgid, ROOT, "app").process;
                    let application = known.then(|| Application::from("nginx"));
                    registry.answer(Answer::Application { process, application }, at);
                }
                Step::Inventory(tgids) => {
                    registry.inventory(&inventory(tgids.into_iter().map(|tgid| found(tgid, "app", "/"))), at);
                }
                Step::Tick => { registry.tick(at); }
                Step::Garbage => { registry.collect_garbage(at); }
            }
        }
        // Give everything that still waits its name.
        registry.tick(now(10_000));
        let active: i64 = shown(&mut registry).iter().map(|(_, _, _, active)| *active).sum();
        prop_assert!(active <= open.len() as i64, "{} active, {} open", active, open.len());
        let processes: u32 = shown(&mut registry).iter().map(|(_, processes, _, _)| *processes).sum();
        prop_assert!(processes <= 7, "{} processes of 7", processes);
        // Applications are those of living processes: with the last of those they go.
        registry.inventory(&inventory([]), now(10_001));
        for sample in registry.samples(now(10_001)) {
            prop_assert_eq!((sample.processes, sample.applications.len()), (0, 0), "{}", sample.id);
        }
    }
}
