//! The daemons that say who a container is fail in every way, all at once. Whatever they do, nobody loses an event, nobody
//! waits for `/metrics`, and who started meanwhile has its name soon after.
mod crio;
mod daemon;
mod engines;
mod failure;
mod scene;
mod trial;
mod units;

use failure::Failure;
use scene::Scene;
use std::time::Duration;
use trial::Trial;

/// Long enough for an agent that has given up waiting for a name.
const A_WHILE: Duration = Duration::from_secs(6);

#[test]
fn daemons_are_killed_and_stopped() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.agent(|member| member.daemon.socket());
    let mut trial = Trial::start(&scene, agent);
    trial.knows_the_residents();
    trial.survives(Failure::Killed, A_WHILE);
    trial.survives(Failure::Stopped, Duration::from_secs(60));
    trial.finish();
}

#[test]
fn sockets_come_late_and_are_not_what_they_were() {
    let Some(scene) = Scene::start() else { return };
    let agent = scene.agent(|member| member.front.path().to_owned());
    let mut trial = Trial::start(&scene, agent);
    trial.survives(Failure::Late, Duration::from_secs(30));
    trial.knows_the_residents();
    for failure in [Failure::Garbage, Failure::Closes, Failure::Silent] {
        trial.survives(failure, A_WHILE);
    }
    trial.finish();
}
