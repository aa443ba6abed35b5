//! Ports that Docker publishes, from everywhere one may connect to them: the host's address leads through the kernel's
//! translation, from the host and from another namespace, a loopback address to a proxy, which connects on.
use std::time::Duration;
use tarsier_integration::{Agent, Cgroup, Netns, Place, Script, free_port, require_root, require_tool};

const CONNECTS: &str = "container_net_tcp_successful_connects_total";
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn from_the_host_from_elsewhere_and_by_loopback() {
    if !(require_root() && require_tool(&["dockerd", "busybox", "ip"])) {
        return;
    }
    let docker = Script::new("dockerd.sh").env("BRIDGED", "1");
    docker.run(&["start", "--bip", "172.30.213.1/24"]);
    let run = |words: &[&str]| docker.run(&[&["docker"], words].concat());
    // An address of the machine's that packets leave it by.
    let netns = Netns::new();
    let [host, _] = netns.outside(free_port());
    let (published, group) = (host.port().to_string(), Cgroup::service("published"));
    let port = format!("{published}:80");
    run(&[
        "run",
        "-d",
        "--name",
        "it-web",
        "-p",
        &port,
        "busybox:test",
        "httpd",
        "-f",
        "-p",
        "80",
        "-h",
        "/bin",
    ]);
    let inside = run(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "it-web"]);
    let inside = format!("{}:80", inside.trim());
    let agent = Agent::builder()
        .set("RUNTIMES__DOCKER__SOCKETS", &docker.run(&["sock"]))
        .start();

    let loopback = format!("127.0.0.1:{published}");
    for (address, count) in [(host.to_string(), "30"), (loopback.clone(), "20")] {
        // The server waits for a request that never comes.
        let held = Place::new().cgroup(&group).start(&["hold", &address, "--count", count]);
        assert_eq!(held.finish()["connected"].to_string(), count);
    }
    let elsewhere = Cgroup::service("elsewhere");
    let place = Place::new().cgroup(&elsewhere).netns(&netns);
    let held = place.start(&["hold", &host.to_string(), "--count", "10"]);
    assert_eq!(held.finish()["connected"], 10);

    let host = host.to_string();
    for (id, destination, actual, connects) in [
        (group.id(), host.as_str(), inside.as_str(), 30.0),
        (group.id(), &loopback, &loopback, 20.0),
        // As from a pod: its own namespace translates nothing.
        (elsewhere.id(), &host, &inside, 10.0),
        // On behalf of those who came by loopback.
        ("/standalone/docker-proxy", &inside, &inside, 20.0),
    ] {
        let labels = [
            ("container_id", id),
            ("destination", destination),
            ("actual_destination", actual),
        ];
        agent.metrics_when(&format!("{connects} of {id} to {destination}"), PATIENCE, |metrics| {
            let all = [("container_id", id), ("destination", destination)];
            metrics.value(CONNECTS, &labels) == Some(connects) && metrics.all(CONNECTS, &all).count() == 1
        });
    }
    docker.run(&["stop"]);
}
