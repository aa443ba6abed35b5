//! A workload of every kind that there is, all at once, on the runtimes themselves where they run on such a machine. Each
//! listens, and connects to the next one a number of times: that stands under exactly its id, and nowhere else. What an agent
//! has recorded of it stands there again in a replay, which needs neither root nor kernel nor runtimes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
mod compare;
mod crio;
mod distilled;
mod host;
mod replayed;
mod scene;
mod start;
mod table;

use compare::Expected;
use distilled::Records;
use scene::{Row, Scene};
use table::RENAMED;

/// No two neighbours have the same number.
fn counts(rows: &[Row], least: u64) -> Vec<u64> {
    (0..rows.len() as u64).map(|at| least + at % 7).collect()
}

#[test]
fn each_kind_stands_under_its_own_id() {
    if !scene::ready() {
        return;
    }
    let mut scene = Scene::new();
    let mut records = Records::new();
    let agent = records.begin(scene.agent()).start();
    let rows = scene.start_all();
    let scene = scene;

    let first = counts(&rows, 3);
    scene.round(&rows, &first);
    let mut expected = Expected {
        unwanted: &scene.unwanted,
        rows: &rows,
        connects: first.clone(),
        renamed: false,
    };
    expected.wait_for(&agent, "containers that are younger than the agent");

    let other = RENAMED.1.trim_start_matches("/docker/");
    let name = format!("kinds-{}", RENAMED.0);
    scene.docker.run(&["docker", "rename", &name, other]);
    expected.renamed = true;
    expected.wait_for(&agent, "one is called otherwise");

    let second = counts(&rows, 2);
    scene.round(&rows, &second);
    expected.connects = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    expected.wait_for(&agent, "once more, under the other name");
    agent.stop();
    records.end("younger", &expected);

    let agent = records.begin(scene.agent()).start();
    expected.connects = vec![0; rows.len()];
    expected.wait_for(&agent, "containers that are older than the agent");
    let third = counts(&rows, 4);
    scene.round(&rows, &third);
    expected.connects = third;
    expected.wait_for(&agent, "what they do after the agent has come");
    agent.stop();
    records.end("older", &expected);
}
