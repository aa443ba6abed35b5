//! Units of a real systemd, asked about from outside its container.
use rustix::process::{Pid, Signal, kill_process};
use std::{future::Future, path::PathBuf, time::Duration};
use tarsier::runtimes::{
    Change, Client, Lookup, RuntimeError,
    metadata::{Metadata, Unit},
    systemd::Systemd,
};
use tarsier_integration::Machine;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(300);

fn start() -> Option<Machine> {
    Machine::start(&["--private-network"])
}

/// On one thread, as the actors of the agent.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn connect(socket: PathBuf) -> Systemd {
    let connected = timeout(Duration::from_secs(2), Systemd::connect(&[socket])).await;
    connected.expect("in time").expect("a systemd is there")
}

async fn ask(client: &Systemd, unit: &str) -> Option<Metadata> {
    let lookup = Lookup::Unit { unit: unit.into() };
    let answer = timeout(Duration::from_secs(5), client.inspect(&lookup)).await;
    answer.expect("in time").expect("an answer")
}

/// Waits for it, and until nothing more comes of what was done; whatever else happens on the machine is passed over.
async fn hear(client: &mut Systemd, expected: &Change) {
    let heard = async { while client.next_change().await.expect("it goes on") != *expected {} };
    let heard = timeout(PATIENCE, heard).await;
    assert!(heard.is_ok(), "nobody said {expected:?}");
    while timeout(QUIET, client.next_change()).await.is_ok() {}
}

fn unit(kind: &str, triggered_by: &str, description: &str) -> Unit {
    Unit {
        kind: kind.to_owned(),
        triggered_by: triggered_by.to_owned(),
        description: description.to_owned(),
    }
}

const TEMPLATE: &str = "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n";

fn looks_at_units(machine: &Machine) {
    run(async {
        let client = connect(machine.bus()).await;
        let plain = ask(&client, "plain.service").await.expect("it runs");
        assert_eq!(plain.unit, Some(unit("simple", "", "A plain one")));
        let pid = machine.exec(&["systemctl", "show", "-P", "MainPID", "plain"]);
        assert_eq!(plain.pid.to_string(), pid);
        assert_ne!(plain.pid, 0);

        let timed = ask(&client, "timed.service").await.expect("it is loaded");
        let timed = timed.unit.expect("it is a unit");
        assert_eq!(
            (timed.kind.as_str(), timed.triggered_by.as_str()),
            ("oneshot", "timed.timer")
        );

        let instance = ask(&client, "tpl@one.service").await.expect("it runs");
        assert_eq!(instance.unit.expect("it is a unit").kind, "exec");
        let slice = ask(&client, "system-tpl.slice")
            .await
            .expect("the slice of the template");
        assert_eq!((slice.pid, slice.unit.expect("it is a unit").kind.as_str()), (0, ""));

        for unknown in ["unknown.service", "tpl@two.service", "no unit", "plain.service/worker"] {
            assert_eq!(ask(&client, unknown).await, None, "{unknown}");
        }
        // A question must not load what it asks about.
        let loaded = machine.exec(&["systemctl", "list-units", "--all", "--plain", "--no-legend"]);
        assert!(
            !loaded.contains("unknown.service") && !loaded.contains("tpl@two"),
            "{loaded}"
        );
    });
}

#[test]
fn units_are_what_systemd_says_they_are() {
    let Some(machine) = start() else { return };
    machine.exec(&[
        "systemd-run",
        "--unit=plain",
        "--description=A plain one",
        "sleep",
        "1000",
    ]);
    machine.exec(&[
        "systemd-run",
        "--unit=timed",
        "--on-active=1h",
        "--property=Type=oneshot",
        "true",
    ]);
    let write = format!("printf '{TEMPLATE}' >/etc/systemd/system/tpl@.service");
    machine.exec(&["sh", "-c", &write.replace('\n', "\\n")]);
    machine.exec(&["systemctl", "daemon-reload"]);
    machine.exec(&["systemctl", "start", "tpl@one"]);
    looks_at_units(&machine);
}

#[test]
fn start_and_stop_are_heard() {
    let Some(machine) = start() else { return };
    let write = "printf '[Service]\\nExecStart=/bin/sleep 1000\\n' >/etc/systemd/system/kept.service";
    machine.exec(&["sh", "-c", write]);
    machine.exec(&["systemctl", "daemon-reload"]);
    run(async {
        let mut client = connect(machine.bus()).await;
        let changed = |name: &str| Change::Changed(name.into());
        let gone = |name: &str| Change::Gone(name.into());
        machine.exec(&["systemd-run", "--unit=brief", "sleep", "1000"]);
        hear(&mut client, &changed("brief.service")).await;
        assert!(ask(&client, "brief.service").await.is_some());
        machine.exec(&["systemctl", "stop", "brief"]);
        hear(&mut client, &gone("brief.service")).await;
        assert_eq!(ask(&client, "brief.service").await, None);

        // One that fails stays loaded, and is gone all the same.
        machine.exec(&["systemctl", "start", "kept"]);
        hear(&mut client, &changed("kept.service")).await;
        machine.exec(&["systemctl", "kill", "-s", "KILL", "kept"]);
        hear(&mut client, &gone("kept.service")).await;
        machine.exec(&["systemctl", "restart", "kept"]);
        hear(&mut client, &changed("kept.service")).await;
        machine.exec(&["systemctl", "stop", "kept"]);
        hear(&mut client, &gone("kept.service")).await;

        // Units may have changed with their files.
        machine.exec(&["systemctl", "start", "kept"]);
        hear(&mut client, &changed("kept.service")).await;
        machine.exec(&["systemctl", "daemon-reload"]);
        hear(&mut client, &changed("kept.service")).await;
        machine.exec(&["systemctl", "stop", "kept"]);
        hear(&mut client, &gone("kept.service")).await;
    });
}

#[test]
fn a_bus_that_hangs_makes_a_call_late_and_nothing_else() {
    let Some(machine) = start() else { return };
    let pid = machine.exec(&["systemctl", "show", "-P", "MainPID", "dbus"]);
    let signal = |name: &str| machine.exec(&["kill", "-s", name, &pid]);
    run(async {
        let client = connect(machine.bus()).await;
        let lookup = Lookup::Unit {
            unit: "dbus.service".into(),
        };
        signal("STOP");
        let late = timeout(Duration::from_millis(500), client.inspect(&lookup)).await;
        assert!(late.is_err(), "{late:?}");
        signal("CONT");
        assert!(
            ask(&client, "dbus.service").await.is_some(),
            "the connection has survived"
        );
    });
}

#[test]
fn the_end_of_the_machine_is_an_error() {
    let Some(machine) = start() else { return };
    let bus = machine.bus();
    let leader = i32::try_from(machine.leader()).expect("a process id");
    run(async {
        let client = connect(bus.clone()).await;
        let leader = Pid::from_raw(leader).expect("not 0");
        kill_process(leader, Signal::KILL).expect("it is ours");
        let end = async {
            loop {
                if let Err(err) = client.next_change().await {
                    break err;
                }
            }
        };
        let err = timeout(PATIENCE, end).await.expect("in time");
        assert!(matches!(err, RuntimeError::Broken { .. }), "{err:?}");
        let lookup = Lookup::Unit {
            unit: "dbus.service".into(),
        };
        let answer = timeout(Duration::from_secs(5), client.inspect(&lookup)).await;
        let err = answer.expect("in time").expect_err("nobody is there");
        assert!(matches!(err, RuntimeError::Broken { .. }), "{err:?}");
        let refused = Systemd::connect(&[bus]).await;
        assert!(matches!(refused, Err(RuntimeError::NoSocket { .. })));
    });
}
