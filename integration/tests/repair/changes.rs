//! What comes and goes while nobody looks.
use super::{
    LONG,
    scene::{Scene, container, listen},
};
use tarsier_integration::{Agent, Cgroup, Place, Running, Traffic, eventually, free_port};

/// Two processes that have connections and listen: they are to end while nobody looks.
pub(super) struct Before {
    // In the order in which they may end.
    processes: [Running; 2],
    server: Running,
    group: Cgroup,
    listens: String,
    peer: String,
}

impl Before {
    pub(super) fn new(scene: &Scene, agent: &Agent) -> Self {
        let address = || scene.netns.inside(free_port())[0].to_string();
        let (listens, peer, group) = (address(), address(), Cgroup::service("before"));
        let here = Place::new().netns(&scene.netns);
        let server = here.cgroup(&scene.server_group).program("pressure");
        let server = server.start(&["echo", &peer]);
        let place = here.cgroup(&group);
        let processes = [
            place.start(&["serve", &listens]),
            place.start(&["hold", &peer, "--count", "5"]),
        ];
        let expected = Traffic {
            successful: 5,
            active: 5,
            ..Traffic::default()
        };
        expected.expect_of(agent, group.id(), &peer);
        eventually(LONG, "it listens", || listen(agent, &group, &listens)["open"] == true);
        assert_eq!(container(agent, &group)["processes"], 2);
        Self {
            processes,
            server,
            group,
            listens,
            peer,
        }
    }

    /// Two others begin and go on, a third begins and ends: in cgroups whose making nobody has seen either.
    pub(super) fn change(self, scene: &Scene) -> Changes {
        drop(self.processes);
        let (late, gone) = (Cgroup::service("late"), Cgroup::service("gone"));
        let here = Place::new().netns(&scene.netns);
        let (place, listens) = (here.cgroup(&late), scene.netns.inside(free_port())[0].to_string());
        let processes = [
            place.start(&["serve", &listens]),
            place.start(&["hold", &self.peer, "--count", "7"]),
        ];
        let third = here.cgroup(&gone).start(&["hold", &self.peer, "--count", "9"]);
        assert_eq!(third.finish()["connected"], 9);
        Changes {
            _processes: processes,
            _server: self.server,
            before: (self.group, self.listens),
            late: (late, listens),
            gone,
            peer: self.peer,
        }
    }
}

pub(super) struct Changes {
    // In the order in which they may end.
    _processes: [Running; 2],
    _server: Running,
    before: (Cgroup, String),
    late: (Cgroup, String),
    gone: Cgroup,
    peer: String,
}

impl Changes {
    #[track_caller]
    pub(super) fn expect(&self, agent: &Agent, scene: &Scene) {
        let all = [
            (&self.before.0, 0, 5, 0),
            (&self.late.0, 2, 7, 7),
            (&self.gone, 0, 9, 0),
        ];
        for (group, processes, successful, active) in all {
            self.expect_one(agent, group, processes, (successful, active));
        }
        let labels = [("destination", &*self.peer)];
        assert_eq!(
            Traffic::of(&agent.metrics(), &labels).successful,
            21,
            "nobody else has a share"
        );
        eventually(LONG, "who listens does, who has ended does not", || {
            let open = |(group, address): &(Cgroup, String)| listen(agent, group, address)["open"].as_bool();
            (open(&self.before), open(&self.late)) == (Some(false), Some(true))
        });
        eventually(LONG, "the server's side is the same", || {
            let at = listen(agent, &scene.server_group, &self.peer);
            (at["accepted"].as_u64(), at["active"].as_u64()) == (Some(21), Some(7))
        });
    }

    #[track_caller]
    fn expect_one(&self, agent: &Agent, group: &Cgroup, processes: u32, (successful, active): (u64, u64)) {
        let expected = Traffic {
            successful,
            active,
            ..Traffic::default()
        };
        let labels = [("container_id", group.id()), ("destination", &*self.peer)];
        agent.metrics_when(&self.peer, LONG, |metrics| Traffic::of(metrics, &labels) == expected);
        eventually(LONG, "those that live are there, and no others", || {
            container(agent, group)["processes"] == processes
        });
    }

    /// By one who knows nothing of what had ended before it came.
    #[track_caller]
    pub(super) fn expect_late_ones(&self, agent: &Agent) {
        self.expect_one(agent, &self.late.0, 2, (7, 7));
        self.expect_one(agent, &self.gone, 0, (9, 0));
    }
}
