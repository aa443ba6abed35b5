//! What is not wanted, and then wanted again.
use super::{
    is_ready,
    scene::{Make, PATIENCE, Scene, Statuses, Way, script, words},
};
use tarsier_integration::{Cgroup, End, Running, eventually};

const PATHS: [&str; 4] = ["/", "/missing", "/moved?to=/missing", "/"];

/// Each of the four once, on a connection that stays open.
fn ask(open: &mut Running) {
    let answered: Statuses = serde_json::from_value(open.tell("")).unwrap();
    let expected = [("2xx", 2), ("3xx", 1), ("4xx", 1)].map(|(status, count)| (status.to_owned(), count));
    assert_eq!(answered, Statuses::from(expected));
}

fn open(scene: &Scene, group: &Cgroup) -> Running {
    let words = words(
        "again",
        scene.older.address(scene.older.server(Make::Go).port, Way::Link4),
        4,
        &PATHS,
    );
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let client = script("client.py");
    scene.older.client(group, Way::Link4).program(&client).start(&words)
}

/// On both ends.
fn is_counted(scene: &Scene, client: &Cgroup, expected: &[(&str, u64)]) {
    let expected: Statuses = expected
        .iter()
        .map(|(status, count)| ((*status).to_owned(), *count))
        .collect();
    let server = &scene.older.server(Make::Go).group;
    for (group, end) in [(client, End::Client), (server, End::Server)] {
        let counted = |metrics: &tarsier_integration::Metrics| metrics.requests_of(group.id(), "http", end);
        let metrics = scene.settled(PATIENCE, |metrics| counted(metrics) == expected);
        assert_eq!(counted(&metrics), expected, "{end:?}");
    }
}

#[test]
fn what_is_switched_off_is_not_counted_and_its_programs_are_gone() {
    if !is_ready() {
        return;
    }
    let scene = Scene::new(&[Make::Go], "l7: {}\n");
    let reads = || {
        let programs = scene.agent.admin("/api/v1/actors")["kernel"]["programs"].clone();
        let programs = programs.as_array().unwrap().clone();
        let mut names = programs.iter().filter_map(|program| program["program"].as_str());
        names.any(|name| name.starts_with("l7_"))
    };
    let group = Cgroup::service("client");
    let mut older = open(&scene, &group);
    ask(&mut older);
    is_counted(&scene, &group, &[("2xx", 2), ("3xx", 1), ("4xx", 1)]);
    // Only HTTP, then all that anybody says.
    let off = [
        "l7: {http: false}\n",
        "l7: {dns: false, http: false, redis: false, postgres: false, memcached: false}\n",
    ];
    let mut younger = Vec::new();
    for yaml in off {
        scene.reload(yaml);
        let mut another = open(&scene, &group);
        ask(&mut older);
        ask(&mut another);
        younger.push(another);
    }
    eventually(PATIENCE, "the programs that read are gone", || !reads());
    scene.reload("l7: {http: true}\n");
    eventually(PATIENCE, "the programs that read are back", reads);
    for open in younger.iter_mut().chain([&mut older]) {
        ask(open);
    }
    // Of those in between nothing: it would have come before these.
    is_counted(&scene, &group, &[("2xx", 8), ("3xx", 4), ("4xx", 4)]);
    scene.is_balanced();
}

#[test]
fn what_is_left_out_by_its_target_is_not_counted() {
    if !is_ready() {
        return;
    }
    for kernel_lane in [true, false] {
        let lane = format!("kernel_lane: {kernel_lane}");
        let scene = Scene::new(&[Make::Go], &format!("l7: {{{lane}}}\n"));
        let group = Cgroup::service("client");
        let mut open = open(&scene, &group);
        ask(&mut open);
        is_counted(&scene, &group, &[("2xx", 2), ("3xx", 1), ("4xx", 1)]);
        // On the same connection. The last request is always counted: then those before it have been looked at too.
        scene.reload(&format!("l7: {{{lane}, http_leave_out: ['^/missing']}}\n"));
        ask(&mut open);
        is_counted(&scene, &group, &[("2xx", 4), ("3xx", 2), ("4xx", 1)]);
        scene.reload(&format!("l7: {{{lane}, http_leave_out: ['nowhere', 'missing$']}}\n"));
        ask(&mut open);
        is_counted(&scene, &group, &[("2xx", 6), ("3xx", 2), ("4xx", 1)]);
        scene.reload(&format!("l7: {{{lane}}}\n"));
        ask(&mut open);
        is_counted(&scene, &group, &[("2xx", 8), ("3xx", 3), ("4xx", 2)]);
        scene.is_balanced();
    }
}
