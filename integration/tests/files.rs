//! Files that are open for writing, as their process sees them and as the kernel numbers them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tarsier_integration::{Agent, Cgroup, Place, Running, Stopwatch, eventually, pause, require_root, require_tool};
use tempfile::TempDir;

/// Does what it is told, line by line.
const SHELL: &str = r#"echo ready; while read -r line; do eval "$line"; echo 1; done; echo null"#;

fn agent() -> Agent {
    Agent::builder().set("KERNEL__FILES_INTERVAL", "1s").start()
}

fn shell(group: &Cgroup) -> Running {
    // What the tests write to may be a file.
    let script = format!("exec 2>/dev/null; {SHELL}");
    Place::new().cgroup(group).program("/bin/bash").start(&["-c", &script])
}

/// A folder on the disk of this machine.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("tarsier-it-files-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
}

/// A filesystem of its own on a folder.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(on: &Path) -> Self {
        fs::create_dir(on).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(on).status();
        assert!(mount.unwrap().success());
        Self(on.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg(&self.0).status();
        assert!(std::thread::panicking() || gone.is_ok_and(|status| status.success()));
    }
}

/// What the agent has to say of a descriptor: numbers as /proc tells them.
fn row(process: &Running, descriptor: u32, path: &str) -> Value {
    let folder = format!("/proc/{}", process.pid());
    let info = fs::read_to_string(format!("{folder}/fdinfo/{descriptor}")).unwrap();
    let mount = info
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .unwrap()
        .trim();
    let stat = fs::metadata(format!("{folder}/fd/{descriptor}")).unwrap();
    let device = format!("{}:{}", libc::major(stat.dev()), libc::minor(stat.dev()));
    let mounts = fs::read_to_string(format!("{folder}/mountinfo")).unwrap();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(mount))
        .unwrap();
    assert_eq!(line.split(' ').nth(2), Some(&*device), "{line}");
    json!({
        "path": path, "truncated": false, "mount_id": mount.parse::<u32>().unwrap(), "device": device,
        "inode": stat.ino(), "deleted": false, "append": false, "processes": 1,
    })
}

fn with(mut row: Value, key: &str, value: impl Into<Value>) -> Value {
    row[key] = value.into();
    row
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Waits until the container has these files and no others.
#[track_caller]
fn expect(agent: &Agent, group: &Cgroup, expected: &[Value]) {
    let mut expected = expected.to_vec();
    expected.sort_by_key(|row| row["path"].as_str().unwrap().to_owned());
    let watch = Stopwatch::start();
    loop {
        let container = agent
            .ask(&format!("/api/v1/containers{}", group.id()))
            .unwrap_or_default();
        if container["files"] == json!(expected) && container["files_left_out"] == 0 {
            return;
        }
        assert!(
            watch.elapsed() < Duration::from_secs(15),
            "{expected:#?} is right, the agent has {:#?}",
            container["files"]
        );
        pause(Duration::from_millis(100));
    }
}

#[test]
fn on_the_root_and_on_a_second_mount() {
    if !(require_root() && require_tool(&["mount", "umount"])) {
        return;
    }
    let (folder, group) = (folder(), Cgroup::service("files"));
    let second = Mounted::tmpfs(&folder.path().join("second"));
    // One is older than the agent.
    let mut process = shell(&group);
    let (on_root, on_second) = (text(&folder.path().join("on root")), text(&second.0.join("log")));
    process.tell(&format!("exec 3>'{on_root}'"));
    let agent = agent();
    let first = row(&process, 3, &on_root);
    expect(&agent, &group, std::slice::from_ref(&first));
    process.tell(&format!("exec 4>>'{on_second}'"));
    let other = with(row(&process, 4, &on_second), "append", true);
    assert_ne!(first["mount_id"], other["mount_id"]);
    assert_ne!(first["device"], other["device"]);
    expect(&agent, &group, &[first.clone(), other.clone()]);

    // Those that are only read, those that are no files, and what is no disk's.
    process.tell(&format!("exec 5<'{on_second}' 6>/dev/zero 7> >(:) 8>/proc/self/comm"));
    expect_stays(&agent, &group, &[first.clone(), other.clone()]);
    // For reading and writing, by another name of it.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&on_second, &link).unwrap();
    process.tell(&format!("exec 4>&- 5<>'{}'", link.display()));
    let target = row(&process, 5, &on_second);
    expect(&agent, &group, &[first.clone(), target.clone()]);
    process.tell("exec 3>&-");
    expect(&agent, &group, &[target]);
    process.finish();
    expect(&agent, &group, &[]);
}

/// Over several passes.
#[track_caller]
fn expect_stays(agent: &Agent, group: &Cgroup, expected: &[Value]) {
    pause(Duration::from_millis(2500));
    expect(agent, group, expected);
}

#[test]
fn names_that_are_gone_odd_or_long() {
    if !require_root() {
        return;
    }
    let (folder, group, agent) = (folder(), Cgroup::service("names"), agent());
    let at = |name: &str| text(&folder.path().join(name));
    let mut process = shell(&group);
    // A file may be called as if it were gone.
    let (gone, called_so) = (at("gone"), at("called (deleted)"));
    process.tell(&format!("exec 3>'{gone}' 4>'{called_so}'"));
    process.tell(&format!("exec 5>$(printf '{}\\377\\n')", at("odd")));
    let rows = [
        row(&process, 3, &gone),
        row(&process, 4, &called_so),
        row(&process, 5, &at(r"odd\xff")),
    ];
    expect(&agent, &group, &rows);
    fs::remove_file(&gone).unwrap();
    let [was, called, odd] = rows;
    let rows = [with(was, "deleted", true), called, odd];
    expect(&agent, &group, &rows);
    process.tell("exec 3>&- 4>&- 5>&-");

    // As long as a system call takes, and so long that several are needed to get there.
    let (long, part) = (at(&"long/".repeat(100)), "part".repeat(50));
    fs::create_dir_all(&long).unwrap();
    process.tell(&format!("cd '{long}'; exec 3>log"));
    let cut = |row: Value| {
        let path = row["path"].as_str().unwrap().as_bytes()[..512.min(row["path"].as_str().unwrap().len())].to_vec();
        with(with(row, "truncated", true), "path", String::from_utf8(path).unwrap())
    };
    let long = cut(row(&process, 3, &format!("{long}log")));
    expect(&agent, &group, std::slice::from_ref(&long));
    process.tell(&format!(
        "for i in {{1..20}}; do mkdir {part} && cd -P {part}; done; exec 4>log"
    ));
    let unknown = with(with(row(&process, 4, ""), "truncated", true), "path", "");
    expect(&agent, &group, &[long, unknown]);
    process.finish();
    expect(&agent, &group, &[]);
}

#[test]
fn a_file_that_several_have() {
    if !require_root() {
        return;
    }
    let (folder, agent) = (folder(), agent());
    let (one, other) = (Cgroup::service("one"), Cgroup::service("other"));
    let path = text(&folder.path().join("shared"));
    let mut processes = [&one, &one, &other].map(shell);
    for process in &mut processes {
        // Twice is once.
        process.tell(&format!("exec 3>'{path}' 4>'{path}'"));
    }
    let shared = row(&processes[0], 3, &path);
    expect(&agent, &one, &[with(shared.clone(), "processes", 2)]);
    expect(&agent, &other, std::slice::from_ref(&shared));
    let [first, second, third] = processes;
    first.finish();
    expect(&agent, &one, std::slice::from_ref(&shared));
    // A child that only inherits it has it too.
    let mut second = second;
    second.tell("exec 4>&-; { read -t 1000 <> <(:); } &");
    expect(&agent, &one, &[with(shared, "processes", 2)]);
    second.tell("kill $!");
    second.finish();
    third.finish();
}

#[test]
fn in_the_mount_namespace_of_a_container() {
    if !(require_root() && require_tool(&["unshare", "mount", "pivot_root"])) {
        return;
    }
    let (folder, group, agent) = (folder(), Cgroup::service("container"), agent());
    for name in [
        "lower/data",
        "lower/old",
        "lower/volume",
        "upper",
        "work",
        "root",
        "host-volume",
    ] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("lower/data/below"), "").unwrap();
    // As runtimes do it: layers for a root, and a folder of the host. All of it goes with the process.
    let script = format!(
        "set -e; cd '{}'; mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work root
         mount --bind host-volume root/volume; exec 2>/dev/null; cd root; pivot_root . old; cd /; set +e; {SHELL}",
        folder.path().display()
    );
    let words = ["--mount", "--propagation", "private", "/bin/bash", "-c", &script];
    let mut process = Place::new().cgroup(&group).program("/usr/bin/unshare").start(&words);
    process.tell("exec 3>/data/new 4>>/data/below 5>/volume/log 6>/old/tmp/tarsier-it-$$");
    let outside = format!("/tmp/tarsier-it-{}", process.pid());
    let rows = [
        row(&process, 3, "/data/new"),
        with(row(&process, 4, "/data/below"), "append", true),
        row(&process, 5, "/volume/log"),
        row(&process, 6, &format!("/old{outside}")),
    ];
    fs::remove_file(outside).unwrap();
    let [new, below, volume, old] = rows;
    expect(
        &agent,
        &group,
        &[new.clone(), below, volume.clone(), with(old, "deleted", true)],
    );
    assert_ne!(new["mount_id"], volume["mount_id"]);
    // The same file by a name of the host is another container's, through another mount.
    let outer = Cgroup::service("host");
    let mut host = shell(&outer);
    let path = text(&folder.path().join("host-volume/log"));
    host.tell(&format!("exec 3>>'{path}'"));
    let seen = with(row(&host, 3, &path), "append", true);
    expect(&agent, &outer, std::slice::from_ref(&seen));
    assert_eq!((&seen["inode"], &seen["device"]), (&volume["inode"], &volume["device"]));
    assert_ne!(seen["mount_id"], volume["mount_id"]);
    process.finish();
    host.finish();
}

#[test]
fn more_than_are_shown() {
    if !require_root() {
        return;
    }
    let (folder, group, agent) = (folder(), Cgroup::service("many"), agent());
    let mut processes = [shell(&group), shell(&group)];
    let folder = folder.path().display();
    processes[0].tell(&format!("for i in {{1001..1300}}; do exec {{fd}}>'{folder}'/$i; done"));
    let counts = || {
        let path = format!("/api/v1/containers{}", group.id());
        let container = agent.ask(&path).unwrap_or_default();
        let files = container["files"].as_array().map_or(0, Vec::len);
        (files, container["files_left_out"].as_u64().unwrap_or_default())
    };
    eventually(Duration::from_secs(15), "44 of 300 are left out", || {
        counts() == (256, 44)
    });
    // What the other has, has no room either.
    processes[1].tell(&format!("exec 3>'{folder}'/2000 4>'{folder}'/2001"));
    eventually(Duration::from_secs(15), "46 of 302 are left out", || {
        counts() == (256, 46)
    });
    processes[0].tell("while [ $fd -gt 9 ]; do exec {fd}>&-; fd=$((fd-1)); done");
    eventually(Duration::from_secs(15), "all but two are closed", || counts() == (2, 0));
}

#[test]
fn whoever_does_not_want_them_has_none() {
    if !require_root() {
        return;
    }
    let (folder, group) = (folder(), Cgroup::service("off"));
    let agent = Agent::builder().config("kernel: {features_off: [files]}\n");
    let agent = agent.set("KERNEL__FILES_INTERVAL", "1s").start();
    let mut process = shell(&group);
    process.tell(&format!("exec 3>'{}'/log", folder.path().display()));
    expect_stays(&agent, &group, &[]);
    let features = agent.features();
    let row = features.iter().find(|row| row.name == "files").unwrap();
    assert_eq!((&*row.state, &*row.reason), ("off", "configured"));
    process.finish();
}
