//! What runs in a container: real servers, older and younger than the agent.
use std::{
    process::{Child, Stdio},
    time::Duration,
};
use tarsier_integration::{Agent, Cgroup, Place, eventually, free_port, has_tool, require_root, require_tool};

/// Ends with the test, its workers with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM).ok();
        self.0.wait().ok();
    }
}

fn start(group: &Cgroup, words: &[&str]) -> Server {
    let mut command = Place::new().cgroup(group).command(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    Server(command.stderr(Stdio::null()).spawn().expect("it starts"))
}

fn types(agent: &Agent, group: &Cgroup) -> Vec<String> {
    let metrics = agent.metrics();
    let labels = [("container_id", group.id())];
    let all = metrics.all("container_application_type", &labels);
    all.map(|sample| sample.label("application_type").to_owned()).collect()
}

#[test]
fn real_servers() {
    if !(require_root() && require_tool(&["python3", "redis-server", "sh"])) {
        return;
    }
    let port = || free_port().to_string();
    let (redis_port, python_port, nginx_port) = (port(), port(), port());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = folder.path().display();
    // Files of its own: at its end it removes the one for its pid, whatever that is.
    let nginx = format!(
        "daemon off; pid {own}/pid; error_log {own}/log; events {{}}
        http {{ access_log off; server {{ listen 127.0.0.1:{nginx_port}; }} }}"
    );
    let conf = folder.path().join("nginx.conf");
    std::fs::write(&conf, nginx).expect("the folder is ours");
    let conf = conf.to_string_lossy();
    let mut servers: Vec<(&str, &str, Vec<&str>)> = vec![
        (
            "redis",
            "redis",
            vec!["redis-server", "--port", &redis_port, "--save", ""],
        ),
        (
            "python",
            "python",
            vec![
                "sh",
                "-c",
                "exec python3 -m http.server --bind 127.0.0.1 $0",
                &python_port,
            ],
        ),
        ("script", "", vec!["sh", "-c", "while sleep 1; do :; done"]),
    ];
    if has_tool("nginx") {
        servers.push(("nginx", "nginx", vec!["nginx", "-c", &conf]));
    }
    for older in [true, false] {
        let mut agent = (!older).then(Agent::start);
        let groups: Vec<_> = servers.iter().map(|(name, ..)| Cgroup::service(name)).collect();
        let running: Vec<_> = servers
            .iter()
            .zip(&groups)
            .map(|((_, _, words), group)| start(group, words))
            .collect();
        let agent = agent.get_or_insert_with(Agent::start);
        for ((name, kind, _), group) in servers.iter().zip(&groups) {
            let expected: Vec<_> = Some(*kind).filter(|kind| !kind.is_empty()).into_iter().collect();
            eventually(Duration::from_secs(20), &format!("{name} is {kind:?}"), || {
                let known = agent.ask(&format!("/api/v1/containers{}", group.id()));
                let known = known
                    .is_ok_and(|it| it["application_types"] == serde_json::json!(expected) && it["processes"] != 0);
                known && types(agent, group) == expected
            });
        }
        drop(running);
        for ((name, ..), group) in servers.iter().zip(&groups) {
            // The script's last child ends a moment after it.
            eventually(Duration::from_secs(20), &format!("{name} has ended"), || {
                group.processes().is_empty() && types(agent, group).is_empty()
            });
        }
    }
}
