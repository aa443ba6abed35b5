//! One agent through all that happens, and what must be true of it then.
use crate::{
    daemon::{Expected, Guest, Inside, Names},
    failure::Failure,
    scene::{Member, Scene},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    thread,
    time::Duration,
};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Metrics, Running, Stopwatch, Traffic, Watcher, eventually, ledger, pause,
};

/// Within this an identity is right once its runtime answers again.
const RECOVERY: Duration = Duration::from_secs(10);
/// For what takes some seconds.
const SOON: Duration = Duration::from_secs(20);
const CONNECTS: u32 = 20;

pub(crate) struct Trial<'a> {
    scene: &'a Scene,
    agent: Agent,
    watcher: Watcher,
    /// One of each runtime, and one that no runtime has to do with: they work from the beginning to the end.
    residents: Vec<(Guest, Running)>,
    /// Those that started during a failure.
    guests: Vec<(Guest, Running)>,
    /// And those of them that nobody wants to see.
    unwanted: Vec<(Guest, Running)>,
}

impl<'a> Trial<'a> {
    pub(crate) fn start(scene: &'a Scene, agent: AgentBuilder) -> Self {
        let agent = agent.start();
        let watcher = Watcher::over(&agent);
        let mut residents: Vec<_> = scene
            .members
            .iter()
            .map(|member| {
                let (work, server) = scene.work(Some(&*member.daemon), None);
                (member.daemon.run(&member.name("resident"), work), server)
            })
            .collect();
        let (work, server) = scene.work(None, None);
        let group = Cgroup::service("bystander");
        let (id, interim) = (group.id().to_owned(), group.id().to_owned());
        let bystander = Guest {
            names: Names { id, interim },
            work,
            description: None,
            inside: Inside::Ours(work.start_in(&group), group),
        };
        residents.push((bystander, server));
        Self {
            scene,
            agent,
            watcher,
            residents,
            guests: Vec::new(),
            unwanted: Vec::new(),
        }
    }

    pub(crate) fn knows_the_residents(&self) {
        for (resident, _) in &self.residents {
            let id = resident.names.id.as_str();
            self.agent.metrics_when(id, SOON, |metrics| {
                metrics.value("container_info", &[("container_id", id)]).is_some()
            });
        }
    }

    /// All daemons at once, each with a container that starts meanwhile.
    pub(crate) fn survives(&mut self, failure: Failure, lasts: Duration) {
        let (scene, agent) = (self.scene, &self.agent);
        let before = restarts(&agent.metrics());
        let name = |member: &Member| member.name(&failure.name());
        let expected: Vec<Option<Expected>> = scene
            .members
            .iter()
            .map(|member| failure.takes_daemon().then(|| member.daemon.expect(&name(member))))
            .collect();
        let watch = Stopwatch::start();
        scene.members.iter().for_each(|member| failure.begin(member));
        let start = |(member, expected): (&Member, Option<Expected>)| {
            let (work, server) = scene.work(Some(&*member.daemon), Some(CONNECTS));
            let guest = match expected {
                Some(expected) => member.daemon.run_alone(expected, work),
                None => member.daemon.run(&name(member), work),
            };
            (guest, server)
        };
        let guests: Vec<_> = scene.members.iter().zip(expected).map(start).collect();
        let unwanted = scene.members.iter().filter_map(|member| {
            let (work, server) = scene.work(Some(&*member.daemon), Some(CONNECTS));
            let name = format!("unwanted-{}", failure.name());
            Some((member.daemon.run_unwanted(&name, work)?, server))
        });
        let unwanted: Vec<_> = unwanted.collect();
        for (guest, _) in guests.iter().chain(&unwanted) {
            agent.metrics_when(&guest.names.interim, SOON, |metrics| guest.is_interim(metrics));
        }
        scene.members.iter().for_each(|member| is_away(agent, member, failure));
        while watch.elapsed() < lasts {
            pause(Duration::from_millis(100));
        }
        thread::scope(|scope| {
            for (member, (guest, _)) in scene.members.iter().zip(&guests) {
                scope.spawn(move || recovers(agent, member, failure, guest));
            }
        });
        for (guest, _) in &unwanted {
            let id = &guest.names.id;
            agent.metrics_when(id, RECOVERY, |metrics| metrics.of_container(id).is_empty());
        }
        let mut counted = before;
        for member in &scene.members {
            is_back(agent, member);
            if let Some(cause) = failure.cause(member.runtime()) {
                *counted
                    .entry((member.runtime().to_owned(), cause.to_owned()))
                    .or_default() += 1;
            }
        }
        assert_eq!(restarts(&agent.metrics()), counted, "after {failure:?}");
        self.guests.extend(guests);
        self.unwanted.extend(unwanted);
    }

    pub(crate) fn finish(self) {
        let metrics = self.agent.metrics();
        for (guest, _) in &self.guests {
            assert!(guest.is_right(&self.agent, &metrics), "{} has changed", guest.names.id);
        }
        for (guest, _) in &self.unwanted {
            assert_eq!(
                metrics.of_container(&guest.names.id),
                Vec::<&str>::new(),
                "{}",
                guest.names.id
            );
        }
        for (resident, server) in self.residents {
            end(resident.inside);
            let served = server.finish()["connected"].as_u64().expect("a number");
            let id = &resident.names.id;
            assert!(served > 50, "{id} is to work all the time, and did so {served} times");
            let all = Traffic {
                successful: served,
                ..Traffic::default()
            };
            all.expect_of(&self.agent, id, &resident.work.address.to_string());
        }
        let metrics = self.agent.metrics();
        let lost = metrics.all("tarsier_events_dropped_total", &[("class", "loss")]);
        let lost: Vec<_> = lost.filter(|sample| sample.value > 0.0).collect();
        assert!(lost.is_empty(), "{lost:?}");
        eventually(SOON, "the books balance", || {
            ledger::balance(&self.agent.admin("/api/v1/ledger")) == Ok(())
        });
        let slowest = self.watcher.finish();
        say(&format!("the slowest of all answers of /metrics took {slowest:?}"));
    }
}

/// In the test's own output: the runner would swallow it.
fn say(text: &str) {
    writeln!(io::stderr(), "{text}").expect("stderr is open");
}

/// Connections that were lost, by runtime and cause.
fn restarts(metrics: &Metrics) -> BTreeMap<(String, String), u64> {
    let all = metrics.all("tarsier_actor_restarts_total", &[]);
    let of_cause = |sample: &tarsier_integration::Sample| {
        let name = (sample.label("actor").to_owned(), sample.label("cause").to_owned());
        (name, sample.value as u64)
    };
    all.map(of_cause).collect()
}

fn is_connected(metrics: &Metrics, runtime: &str) -> Option<bool> {
    let value = metrics.value("tarsier_runtime_connected", &[("runtime", runtime)]);
    value.map(|value| value == 1.0)
}

#[track_caller]
fn is_away(agent: &Agent, member: &Member, failure: Failure) {
    let runtime = member.runtime();
    agent.metrics_when(runtime, SOON, |metrics| is_connected(metrics, runtime) == Some(false));
    eventually(SOON, &format!("{runtime} is {failure:?}, and its row says so"), || {
        let row = agent.feature(runtime);
        !row.ok() && failure.reasons().contains(&row.reason.as_str())
    });
}

#[track_caller]
fn is_back(agent: &Agent, member: &Member) {
    let runtime = member.runtime();
    agent.metrics_when(runtime, SOON, |metrics| is_connected(metrics, runtime) == Some(true));
    let row = agent.feature(runtime);
    assert!(row.ok(), "{row:?}");
}

fn recovers(agent: &Agent, member: &Member, failure: Failure, guest: &Guest) {
    failure.end(member);
    let watch = Stopwatch::start();
    let id = &guest.names.id;
    agent.metrics_when(id, RECOVERY, |metrics| guest.is_right(agent, metrics));
    say(&format!(
        "{} after {failure:?}: {id} after {:?}",
        member.runtime(),
        watch.elapsed()
    ));
}

/// Returns when it does nothing more.
fn end(inside: Inside) {
    match inside {
        Inside::Ours(process, _group) => drop(process.finish()),
        Inside::Foreign(pid) => {
            let process = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
            kill_process(process, Signal::TERM).expect("it runs");
            eventually(SOON, "it ends", || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let state = stat.rsplit_once(") ").map_or("X", |(_, rest)| rest);
                state.starts_with(['Z', 'X'])
            });
        }
    }
}
