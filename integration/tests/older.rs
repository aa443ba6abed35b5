//! What was there before the agent: connections, listens, and what waits to be accepted, in every network namespace.
use std::{net::SocketAddr, thread, time::Duration};
use tarsier_integration::{
    Agent, AgentBuilder, Cgroup, Netns, Place, Running, Stopwatch, Traffic, eventually, free_port, pause, require_root,
    require_tool,
};

const LONG: Duration = Duration::from_secs(20);

fn ready() -> bool {
    require_root() && require_tool(&["ip", "nsenter", "unshare"])
}

/// Two namespaces, each with a server and a client that has seven connections to it.
struct Scene {
    pairs: Vec<Pair>,
}

struct Pair {
    // First, so that they end before their cgroups do.
    _processes: [Running; 2],
    client_group: Cgroup,
    server_group: Cgroup,
    address: SocketAddr,
    netns: Netns,
}

impl Scene {
    fn new() -> Self {
        let pair = |family: usize| {
            let (netns, port) = (Netns::new(), free_port());
            let (client_group, server_group) = (Cgroup::service("client"), Cgroup::service("server"));
            let address = netns.inside(port)[family];
            let text = address.to_string();
            let place = Place::new().netns(&netns);
            let server = place
                .cgroup(&server_group)
                .start(&["serve", &text, "--read", "100", "--keep"]);
            let client = place
                .cgroup(&client_group)
                .start(&["hold", &text, "--count", "7", "--send", "100"]);
            Pair {
                _processes: [server, client],
                client_group,
                server_group,
                address,
                netns,
            }
        };
        Self {
            pairs: vec![pair(0), pair(1)],
        }
    }

    #[track_caller]
    fn expect(&self, ask: impl Fn(&str) -> Option<serde_json::Value>) {
        for pair in &self.pairs {
            let address = pair.address.to_string();
            eventually(LONG, "both ends are as they are", || {
                let (Some(client), Some(server)) = (ask(pair.client_group.id()), ask(pair.server_group.id())) else {
                    return false;
                };
                let (to, at) = (&client["destinations"][0], &server["listens"][0]);
                let client = (
                    &to["destination"],
                    &to["active"],
                    &to["successful_connects"],
                    &to["sent_bytes"],
                );
                let server = (
                    &at["address"],
                    &at["active"],
                    &at["accepted"],
                    &at["received_bytes"],
                    &at["sockets"],
                );
                client == (&address.clone().into(), &7.into(), &0.into(), &0.into())
                    && server == (&address.clone().into(), &7.into(), &0.into(), &0.into(), &1.into())
            });
        }
    }
}

fn container(agent: &Agent, id: &str) -> Option<serde_json::Value> {
    agent.ask(&format!("/api/v1/containers{id}")).ok()
}

fn from_proc() -> AgentBuilder {
    Agent::builder().config("kernel: {features_off: [inventory, inventory_waiting, totals]}\n")
}

#[test]
fn the_iterators_and_proc_show_the_same() {
    if !ready() {
        return;
    }
    let scene = Scene::new();
    for builder in [Agent::builder(), from_proc()] {
        let agent = builder.start();
        scene.expect(|id| container(&agent, id));
        // Not for a moment only, and no more by the next look.
        pause(Duration::from_millis(2_500));
        scene.expect(|id| container(&agent, id));
        let metrics = agent.metrics();
        for pair in &scene.pairs {
            let labels = [("destination", &*pair.address.to_string())];
            let expected = Traffic {
                active: 7,
                ..Traffic::default()
            };
            assert_eq!(Traffic::of(&metrics, &labels), expected, "nobody else has a share");
            let labels = [("listen_addr", &*pair.address.to_string())];
            let listens = metrics.all("container_net_tcp_listen_info", &labels);
            assert_eq!(
                listens
                    .map(|listen| listen.label("container_id").to_owned())
                    .collect::<Vec<_>>(),
                [pair.server_group.id()]
            );
        }
    }
}

/// As in a pod: the host's processes, a network namespace of its own.
#[test]
fn an_agent_in_a_namespace_of_its_own_sees_the_others() {
    if !ready() {
        return;
    }
    let scene = Scene::new();
    let inside = ["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"];
    for builder in [Agent::builder(), from_proc()] {
        let agent = builder.wrapped_in(&inside).spawn();
        scene.expect(|id| container(&agent, id));
    }
}

#[test]
fn connections_that_wait_to_be_accepted_are_the_listeners() {
    if !ready() {
        return;
    }
    let (netns, group, server_group) = (Netns::new(), Cgroup::service("client"), Cgroup::service("server"));
    let text = netns.inside(free_port())[0].to_string();
    let place = Place::new().netns(&netns);
    let backlog = ["backlog", &text, "--accept", "1", "--read", "10", "--answer", "7"];
    let mut server = place.cgroup(&server_group).start(&backlog);
    let client = place
        .cgroup(&group)
        .start(&["hold", &text, "--count", "5", "--send", "10"]);
    let listen = |agent: &Agent| Some(container(agent, server_group.id())?["listens"][0].clone());
    for builder in [Agent::builder(), from_proc()] {
        let agent = builder.start();
        eventually(LONG, "five wait", || {
            listen(&agent)
                .is_some_and(|at| (&at["active"], &at["accepted"], &at["sockets"]) == (&5.into(), &0.into(), &1.into()))
        });
    }
    // One that began before, and is accepted and used now, is still no new one.
    let agent = Agent::start();
    eventually(LONG, "five wait", || listen(&agent).is_some_and(|at| at["active"] == 5));
    server.give("now");
    eventually(LONG, "what it did since counts", || {
        listen(&agent).is_some_and(|at| {
            let bytes = (&at["sent_bytes"], &at["received_bytes"]);
            (&at["active"], &at["accepted"]) == (&5.into(), &0.into()) && bytes == (&7.into(), &0.into())
        })
    });
    drop(client);
    drop(server);
    eventually(LONG, "all have ended", || {
        listen(&agent).is_some_and(|at| {
            let closes = at["closes"].as_object().unwrap().values();
            let ended: u64 = closes.filter_map(serde_json::Value::as_u64).sum();
            (&at["active"], &at["accepted"], ended) == (&0.into(), &0.into(), 5)
        })
    });
}

/// Nobody listens any more who could tell which end is the server's.
#[test]
fn a_connection_that_outlives_its_listener_is_the_servers() {
    if !ready() {
        return;
    }
    let (netns, group, server_group) = (Netns::new(), Cgroup::service("client"), Cgroup::service("server"));
    for address in netns.inside(free_port()) {
        let text = address.to_string();
        let place = Place::new().netns(&netns);
        let backlog = [
            "backlog", &text, "--accept", "3", "--read", "10", "--answer", "7", "--close",
        ];
        let mut server = place.cgroup(&server_group).start(&backlog);
        let _client = place
            .cgroup(&group)
            .start(&["hold", &text, "--count", "3", "--send", "10"]);
        server.give("now");
        assert_eq!(server.line(), "ready");
        let agent = Agent::start();
        eventually(LONG, "each end is what it is", || {
            let (Some(client), Some(server)) = (container(&agent, group.id()), container(&agent, server_group.id()))
            else {
                return false;
            };
            let (to, at) = (&client["destinations"][0], &server["listens"][0]);
            (&to["active"], &at["active"], &at["sockets"]) == (&3.into(), &3.into(), &0.into())
                && server["destinations"] == serde_json::json!([])
        });
    }
}

/// However busy it is when the agent comes and goes: what is older is active once, and no connect.
#[test]
fn nothing_is_between_the_inventory_and_the_news() {
    if !ready() {
        return;
    }
    let scene = Scene::new();
    let pair = &scene.pairs[0];
    let (group, other, port) = (Cgroup::service("busy"), Cgroup::service("other"), free_port());
    let busy = pair.netns.inside(port)[0].to_string();
    let place = Place::new().netns(&pair.netns);
    let _server = place.cgroup(&other).start(&["serve", &busy]);
    let watch = Stopwatch::start();
    let load = thread::scope(|scope| {
        let load = scope.spawn(|| {
            place
                .cgroup(&group)
                .run(&["connect", &busy, "--count", "40000", "--parallel", "2"])
        });
        while !load.is_finished() && watch.elapsed() < Duration::from_secs(60) {
            let agent = Agent::start();
            scene.expect(|id| container(&agent, id));
        }
        load.join().unwrap()
    });
    assert_eq!(load["connected"], 40_000);
}
