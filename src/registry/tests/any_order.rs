//! Any order of anything.
use super::*;
use crate::registry::effects::Effects;
use crate::{
    config,
    container::state::ContainerState,
    registry::{
        effects::SlotId,
        filters::{Filters, Verdict},
    },
    runtimes::{Engines, Found, Lookup, Runtime, metadata::Metadata},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug)]
enum Step {
    Event(Box<Event>),
    AnswerCgroup(u64, Option<usize>),
    AnswerProcess(u32, Option<usize>),
    AnswerApplication(u32, bool),
    /// What a runtime says of a container (two have ids, one has a name), if it knows it: one of three names, one of which
    /// nobody wants to see.
    AnswerRuntime(usize, Option<usize>),
    Inventory(Vec<u32>),
    /// One of some.
    Filters(usize),
    /// The longest asked for: it runs, dies, or gives back what it has.
    Actor(ActorStep),
    Tick,
    Garbage,
}

#[derive(Clone, Copy, Debug)]
enum ActorStep {
    Runs,
    Dies(usize),
    HandsOver,
}

const PATHS: [&str; 5] = [
    "/system.slice/x.service",
    "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "/kubepods/pod1/ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
    "/default/c1",
    "/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

fn lookups() -> [Lookup; 4] {
    let engine = |path: &str, engines| Lookup::Engine {
        id: path.rsplit('/').next().unwrap().into(),
        engines,
    };
    [
        engine(PATHS[1], Engines::Docker),
        engine(PATHS[2], Engines::Any),
        Lookup::Named {
            namespace: "default".into(),
            name: "c1".into(),
        },
        engine(PATHS[4], Engines::Docker),
    ]
}

fn named(name: usize) -> Found {
    let mut metadata = Metadata::new(Runtime::Docker);
    metadata.set_name(["web", "shop", "secret"][name]);
    Found::Known(Arc::new(metadata))
}

/// Actors as the supervisor would have them, each as late as the steps will.
#[derive(Default)]
struct Actors {
    asked: VecDeque<(SlotId, ContainerId)>,
    running: Vec<SlotId>,
    giving: VecDeque<SlotId>,
}

impl Actors {
    fn follow(&mut self, effects: &Effects) {
        self.asked.extend(effects.spawns.iter().cloned());
        self.giving.extend(&effects.hand_overs);
        for slot in &effects.reaps {
            self.running.retain(|running| running != slot);
            self.asked.retain(|(asked, _)| asked != slot);
            self.giving.retain(|giving| giving != slot);
        }
    }

    fn step(&mut self, step: ActorStep, registry: &mut RegistryState, at: Now) -> Option<Effects> {
        let effects = match step {
            ActorStep::Runs => {
                let (slot, id) = self.asked.pop_front()?;
                let (wanted, effects) = registry.container_runs(slot, &id);
                self.running.extend(wanted.then_some(slot));
                effects
            }
            ActorStep::Dies(which) => {
                let slot = *self.running.get(which % self.running.len().max(1))?;
                self.running.retain(|running| *running != slot);
                self.giving.retain(|giving| *giving != slot);
                registry.container_lost(slot, at)
            }
            ActorStep::HandsOver => {
                let slot = self.giving.pop_front()?;
                let limits = settings(Standalone::ByName).limits;
                registry.container_handed_over(slot, Box::new(ContainerState::new(limits)), at)
            }
        };
        self.follow(&effects);
        Some(effects)
    }
}

const FILTERS: usize = 5;

fn filters(which: usize) -> Filters {
    let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    let mut filters = config::Filters::default();
    match which {
        0 => filters.deny = patterns(&["^/docker/secret"]),
        1 => filters.deny = patterns(&["^/docker/[0-9a]", "^/standalone/"]),
        2 => filters.allow = patterns(&["^/docker/web", "^/system.slice/"]),
        3 => filters.signals.tcp.deny = patterns(&["^/docker/", "^/standalone/"]),
        _ => {}
    }
    Filters::new(&filters)
}

fn any_registry(actors: bool) -> RegistryState {
    let settings = Settings {
        runtimes: true,
        filters: Arc::new(filters(0)),
        actors,
        ..settings(Standalone::ByName)
    };
    RegistryState::new(settings, node())
}

fn any_owner() -> impl Strategy<Value = Owner> {
    (1u32..8, 1u64..5).prop_map(|(tgid, cgroup)| owner(tgid, CgroupId(cgroup), "app"))
}

fn any_event() -> impl Strategy<Value = Event> {
    (0u8..12, any_owner(), 1u64..12, 1u32..8, any::<bool>()).prop_map(|(what, owner, cookie, parent, flag)| {
        let socket = |listening| SocketEvent {
            listening,
            shown: flag,
            local: if listening && parent == 7 {
                "0.0.0.0:0".parse().unwrap()
            } else {
                socket(cookie, owner).local
            },
            ..socket(cookie + 100 * u64::from(listening), owner)
        };
        let process = ProcessEvent {
            legacy_hierarchy: flag,
            oom_killed: flag,
            ..process(owner, parent)
        };
        let cgroup = CgroupEvent {
            cgroup: owner.cgroup,
            path: flag.then(|| PATHS[parent as usize % PATHS.len()].to_owned()),
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
            11 => Event::Exchanges(exchanges(owner, if flag { Role::Client } else { Role::Server })),
            _ => Event::SocketSeen(socket(false)),
        }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any_event().prop_map(|event| Step::Event(Box::new(event))),
        2 => (2u64..5, prop::option::weighted(0.8, 0..PATHS.len())).prop_map(|(cgroup, path)| Step::AnswerCgroup(cgroup, path)),
        2 => (1u32..8, prop::option::of(0..PATHS.len())).prop_map(|(tgid, path)| Step::AnswerProcess(tgid, path)),
        4 => (0usize..4, prop::option::weighted(0.8, 0usize..3)).prop_map(|(of, name)| Step::AnswerRuntime(of, name)),
        2 => (0..FILTERS).prop_map(Step::Filters),
        2 => Just(Step::Actor(ActorStep::Runs)),
        1 => (0usize..4).prop_map(|which| Step::Actor(ActorStep::Dies(which))),
        1 => Just(Step::Actor(ActorStep::HandsOver)),
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

/// What the steps lead to, with everything checked after each.
fn run(steps: Vec<Step>, actors: bool) -> RegistryState {
    let mut registry = any_registry(actors);
    let mut others = Actors::default();
    let mut wanted = 0;
    for (second, step) in steps.into_iter().enumerate() {
        let at = now(second as u64 + 1);
        let mut expected = 0;
        let effects = match step {
            Step::Event(event) => {
                expected = u64::from(event.kind().is_some());
                registry.apply([*event], at)
            }
            Step::AnswerCgroup(cgroup, path) => {
                let path = path.map(|path| PATHS[path].into());
                let cgroup = CgroupId(cgroup);
                registry.answer(Answer::Cgroup { cgroup, path }, at)
            }
            Step::AnswerProcess(tgid, path) => {
                let process = owner(tgid, ROOT, "app").process;
                let path = path.map(|path| PATHS[path].into());
                registry.answer(Answer::Process { process, path }, at)
            }
            Step::AnswerApplication(tgid, known) => {
                let process = owner(tgid, ROOT, "app").process;
                let application = known.then(|| Application::from("nginx"));
                registry.answer(Answer::Application { process, application }, at)
            }
            Step::AnswerRuntime(of, name) => {
                let lookup = lookups()[of].clone();
                let found = name.map_or(Found::Nobody, named);
                registry.answer(Answer::Runtime { lookup, found }, at)
            }
            Step::Filters(which) => {
                wanted = which;
                let effects = registry.set_filters(Arc::new(filters(which)), at);
                // Nothing that was hidden comes by saying it twice.
                let again = registry.set_filters(Arc::new(filters(which)), at);
                assert!(again.shares.is_empty() && again.reaps.is_empty() && again.spawns.is_empty());
                effects
            }
            Step::Inventory(tgids) => {
                registry.inventory(&inventory(tgids.into_iter().map(|tgid| found(tgid, "app", "/"))), at)
            }
            Step::Actor(step) => match others.step(step, &mut registry, at) {
                Some(effects) => effects,
                None => continue,
            },
            Step::Tick => registry.tick(at),
            Step::Garbage => registry.collect_garbage(at),
        };
        others.follow(&effects);
        assert_eq!(accounted(&effects), expected);
        registry.check();
        let wanted = filters(wanted);
        for sample in registry.samples(at) {
            assert_eq!(wanted.allows(&sample.id, None), Verdict::Shown, "{}", sample.id);
        }
    }
    registry
}

fn opened(steps: &[Step]) -> i64 {
    let mut open = BTreeMap::new();
    for step in steps {
        let Step::Event(event) = step else { continue };
        match &**event {
            Event::SocketSeen(event) if !event.listening => drop(open.insert(event.socket, ())),
            Event::ConnectionClosed(event) => drop(open.remove(&event.socket)),
            _ => {}
        }
    }
    open.len() as i64
}

proptest! {
    /// Whatever comes in whatever order: every event of the ledger is accounted for once, no connection is active twice
    /// or after its end, and processes are where the index says.
    #[test]
    fn every_event_ends_somewhere_once(steps in prop::collection::vec(any_step(), 0..80)) {
        let open = opened(&steps);
        let mut registry = run(steps, false);
        // Give everything that still waits its name.
        registry.tick(now(10_000));
        registry.check();
        let active: i64 = shown(&mut registry).iter().map(|(_, _, _, active)| *active).sum();
        prop_assert!(active <= open, "{} active, {} open", active, open);
        let processes: u32 = shown(&mut registry).iter().map(|(_, processes, _, _)| *processes).sum();
        prop_assert!(processes <= 7, "{} processes of 7", processes);
        // Applications are those of living processes: with the last of those they go.
        registry.inventory(&inventory([]), now(10_001));
        for sample in registry.samples(now(10_001)) {
            prop_assert_eq!((sample.processes, sample.applications.len()), (0, 0), "{}", sample.id);
        }
    }

    #[test]
    fn nor_is_anything_lost_between_actors(steps in prop::collection::vec(any_step(), 0..120)) {
        run(steps, true);
    }
}
