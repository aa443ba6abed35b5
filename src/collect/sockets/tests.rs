use super::*;
use crate::collect::processes::processes;
use std::{fs, os::unix::fs::symlink, path::PathBuf};

const TCP: &str = include_str!("../testdata/tcp");
const TCP6: &str = include_str!("../testdata/tcp6");

/// A `/proc` of made-up processes.
struct Fake(tempfile::TempDir);

impl Fake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, pid: u32) -> PathBuf {
        self.0.path().join(pid.to_string())
    }

    /// One that started at `start` ticks and has these sockets open.
    fn process(&self, pid: u32, start: u32, cgroup: &str, netns: u32, inodes: &[u64]) -> &Self {
        let path = self.path(pid);
        for folder in ["ns", "net", "fd"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        let stat = format!("{pid} (p{pid}) S 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9 9 9");
        fs::write(path.join("stat"), stat).unwrap();
        fs::write(path.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        symlink(format!("net:[{netns}]"), path.join("ns/net")).unwrap();
        symlink("/dev/null", path.join("fd/0")).unwrap();
        symlink("anon_inode:[eventpoll] and a long name of something", path.join("fd/1")).unwrap();
        for (fd, inode) in inodes.iter().enumerate() {
            symlink(format!("socket:[{inode}]"), path.join(format!("fd/{}", fd + 3))).unwrap();
        }
        self
    }

    fn tables(&self, pid: u32, tcp: &str, tcp6: &str) -> &Self {
        fs::write(self.path(pid).join("net/tcp"), tcp).unwrap();
        fs::write(self.path(pid).join("net/tcp6"), tcp6).unwrap();
        self
    }

    fn look(&self, limits: Limits) -> SocketInventory {
        let processes = processes(self.0.path()).unwrap();
        sockets(self.0.path(), &processes, Source::Proc, limits)
    }

    fn found(&self) -> SocketInventory {
        self.look(Limits::default())
    }
}

fn listener(port: u16, inode: u64) -> String {
    format!("0: 00000000:{port:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1\n")
}

/// Of 10.0.0.1 with 10.0.0.2.
fn connection(local: u16, remote: u16, inode: u64) -> String {
    format!("0: 0100000A:{local:04X} 0200000A:{remote:04X} 01 0:0 0:0 0 0 0 {inode} 1\n")
}

fn text(found: &SocketInventory) -> String {
    let line = |socket: &Socket| {
        let owner = socket.owner.map_or("-".to_owned(), |owner| owner.tgid.to_string());
        let backlog = if socket.backlog { " backlog" } else { "" };
        let (role, state) = (socket.role.as_str(), socket.state.as_str());
        let (netns, local, remote) = (socket.netns.0, socket.local, socket.remote);
        format!("{netns} {owner} {role} {local} {remote} {state}{backlog}\n")
    };
    found.sockets.iter().map(line).collect()
}

/// Both recordings were made of the same namespace at the same time.
#[test]
fn both_sources_tell_the_same() {
    let fake = Fake::new();
    fake.process(7, 100, "/a", 5, &(4825244..=4825255).collect::<Vec<_>>())
        .tables(7, TCP, TCP6);
    let by_proc = fake.found();
    assert_eq!(by_proc.gaps, Gaps::default());
    insta::assert_snapshot!(text(&by_proc));

    let seen = diag::messages(include_bytes!("../testdata/inet_diag"), 7).filter_map(|message| match message {
        diag::Message::Socket(seen) => Some(seen),
        _ => None,
    });
    let processes = processes(fake.0.path()).unwrap();
    let spaces = [(NetnsId(5), seen.collect())].into();
    let owners = owners::owners(fake.0.path(), &processes, &spaces, &mut Gaps::default());
    let mut by_diag = roles::settle(NetnsId(5), spaces[&NetnsId(5)].clone(), &owners);
    let ids: std::collections::HashSet<_> = by_diag.iter().map(|socket| socket.cookie.unwrap()).collect();
    assert_eq!(ids.len(), by_diag.len());
    let sent = |role, port| {
        let of = |socket: &&Socket| socket.role == role && socket.local.port() == port;
        let traffic = by_diag.iter().find(of).unwrap().traffic.unwrap();
        (traffic.sent_bytes, traffic.received_bytes)
    };
    assert_eq!(sent(Role::Client, 5001), (5, 7));
    assert_eq!(sent(Role::Client, 5002), (1000, 0));
    assert_eq!(sent(Role::Server, 8081), (0, 1000));
    // Half closed.
    assert_eq!(sent(Role::Client, 5004), (2, 0));

    // Only the counters tell that this one was accepted: its listener is closed.
    let orphan = by_diag.iter_mut().find(|socket| socket.local.port() == 8082).unwrap();
    assert_eq!(orphan.role, Role::Server);
    orphan.role = Role::Client;
    by_diag
        .iter_mut()
        .for_each(|socket| (socket.cookie, socket.traffic) = (None, None));
    by_diag.sort_by_key(|socket| (socket.role, socket.local, socket.remote, socket.inode));
    assert_eq!(by_diag, by_proc.sockets);
}

#[test]
fn a_listener_is_the_masters_a_connection_the_workers() {
    let fake = Fake::new();
    // systemd opened it and handed it over; the first worker has been replaced.
    fake.process(1, 1, "/init.scope", 5, &[50])
        .process(20, 100, "/web", 5, &[50])
        .process(22, 300, "/web", 5, &[50, 60])
        .process(21, 200, "/web", 5, &[50, 60, 61])
        .tables(
            1,
            &[
                listener(80, 50),
                connection(80, 1, 60),
                connection(80, 2, 61),
                connection(80, 3, 0),
            ]
            .concat(),
            "",
        );
    insta::assert_snapshot!(text(&fake.found()), @r"
    5 20 listener 0.0.0.0:80 0.0.0.0:0 listen
    5 22 server 10.0.0.1:80 10.0.0.2:1 established
    5 21 server 10.0.0.1:80 10.0.0.2:2 established
    5 20 server 10.0.0.1:80 10.0.0.2:3 established backlog
    ");
}

#[test]
fn roles_follow_listeners_of_the_same_namespace_and_family() {
    let fake = Fake::new();
    let tables = [
        listener(80, 50),
        connection(80, 4000, 60),
        connection(81, 4000, 61),
        connection(82, 4000, 62),
    ];
    let v6 = "0: 00000000000000000000000000000000:0051 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 51 1\n";
    fake.process(7, 1, "/a", 5, &[50, 51, 60, 61, 62])
        .tables(7, &tables.concat(), v6);
    fake.process(8, 1, "/b", 6, &[70, 71])
        .tables(8, &[listener(82, 70), connection(80, 4000, 71)].concat(), "");
    insta::assert_snapshot!(text(&fake.found()), @r"
    5 7 listener 0.0.0.0:80 0.0.0.0:0 listen
    5 7 listener [::]:81 [::]:0 listen
    5 7 server 10.0.0.1:80 10.0.0.2:4000 established
    5 7 client 10.0.0.1:81 10.0.0.2:4000 established
    5 7 client 10.0.0.1:82 10.0.0.2:4000 established
    6 8 listener 0.0.0.0:82 0.0.0.0:0 listen
    6 8 client 10.0.0.1:80 10.0.0.2:4000 established
    ");
}

#[test]
fn a_full_namespace_leaves_room_for_others() {
    let fake = Fake::new();
    let flood: String = (1..=50).map(|port| connection(80, port, 0)).collect();
    let flood = [&flood, &*listener(80, 50)].concat();
    fake.process(7, 1, "/a", 5, &[50]).tables(7, &flood, "");
    fake.process(8, 1, "/b", 6, &[]).tables(8, &flood, "");
    fake.process(9, 1, "/c", 7, &[]).tables(9, &flood, "");
    let found = fake.look(Limits {
        per_namespace: 10,
        total: 24,
    });
    let of = |netns, role| {
        let is = |socket: &&Socket| socket.netns == NetnsId(netns) && socket.role == role;
        found.sockets.iter().filter(is).count()
    };
    assert_eq!([5, 6, 7].map(|netns| of(netns, Role::Server)), [10, 10, 2]);
    assert_eq!([5, 6, 7].map(|netns| of(netns, Role::Listener)), [1, 1, 1]);
    assert_eq!(found.gaps.count(Reason::LeftOut), 40 + 40 + 48);
    let (_, gap) = found.gaps.iter().next().unwrap();
    assert_eq!(
        gap.to_string(),
        "128, of which the first: net:[5]: more than 10 sockets"
    );
}

#[test]
fn lines_twice_cut_or_wrong() {
    let fake = Fake::new();
    let long = format!("0: {}", "A".repeat(3000));
    let table = [
        connection(80, 1, 60),
        connection(80, 1, 60),
        long,
        connection(80, 2, 61).chars().take(40).collect(),
    ]
    .concat();
    fake.process(7, 1, "/a", 5, &[60]).tables(7, &table, "nonsense\n");
    let found = fake.found();
    assert_eq!(found.sockets.len(), 1);
    assert_eq!(found.gaps.count(Reason::Malformed), 4);
}

#[test]
fn what_vanishes_is_no_gap() {
    let fake = Fake::new();
    fake.process(7, 1, "/a", 5, &[]);
    fake.process(8, 2, "/a", 5, &[60]).tables(8, &connection(1, 2, 60), "");
    fake.process(9, 2, "/c", 6, &[]);
    fs::remove_dir(fake.path(7).join("net")).unwrap();
    fs::remove_dir_all(fake.path(9).join("net")).unwrap();
    fs::remove_dir_all(fake.path(9).join("fd")).unwrap();
    // The next process answers; the second namespace has no other.
    let found = fake.found();
    assert_eq!(
        (text(&found), found.gaps),
        (
            "5 8 client 10.0.0.1:1 10.0.0.2:2 established\n".to_owned(),
            Gaps::default()
        )
    );

    // Another process has the pid by the time its descriptors are read.
    let processes = processes(fake.0.path()).unwrap();
    fs::remove_dir_all(fake.path(8)).unwrap();
    fake.process(8, 3, "/a", 5, &[60]).tables(8, &connection(1, 2, 60), "");
    let found = sockets(fake.0.path(), &processes, Source::Proc, Limits::default());
    assert_eq!(text(&found), "5 - client 10.0.0.1:1 10.0.0.2:2 established\n");

    // A process that has moved does not tell of where it was.
    fs::remove_file(fake.path(8).join("ns/net")).unwrap();
    symlink("net:[6]", fake.path(8).join("ns/net")).unwrap();
    let found = sockets(fake.0.path(), &processes, Source::Proc, Limits::default());
    assert_eq!((text(&found), found.gaps), (String::new(), Gaps::default()));
}

#[test]
fn what_cannot_be_seen_is_said() {
    let fake = Fake::new();
    fake.process(7, 1, "/a", 5, &[]);
    fs::create_dir(fake.path(7).join("net/tcp")).unwrap();
    fake.process(8, 1, "/a", 6, &[]).tables(8, &connection(1, 2, 60), "");
    fs::remove_dir_all(fake.path(8).join("fd")).unwrap();
    fs::write(fake.path(8).join("fd"), "").unwrap();
    fake.process(9, 1, "/a", 7, &[]);
    fs::remove_file(fake.path(9).join("ns/net")).unwrap();
    fs::create_dir(fake.path(10)).unwrap();
    fs::write(fake.path(10).join("stat"), "nonsense").unwrap();
    let found = fake.found();
    assert_eq!(text(&found), "6 - client 10.0.0.1:1 10.0.0.2:2 established\n");
    let gaps: Vec<_> = found.gaps.iter().map(|(reason, gap)| (reason, gap.count)).collect();
    assert_eq!(
        gaps,
        [
            (Reason::NamespacesHidden, 2),
            (Reason::NamespacesUnseen, 1),
            (Reason::OwnersHidden, 1)
        ]
    );
    // Nothing in it is real, so it cannot be entered either; whoever asks for INET_DIAG alone gets nothing else.
    let processes = processes(fake.0.path()).unwrap();
    let found = sockets(fake.0.path(), &processes, Source::Diag, Limits::default());
    assert_eq!(found.sockets, []);
}

/// Needs no rights: it is about this process and its own namespace.
#[test]
fn this_process() {
    let proc = Path::new("/proc");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(address).unwrap();
    let me = std::process::id();
    let find = |source| {
        let found = sockets(proc, &processes(proc).unwrap(), source, Limits::default());
        let mine = |socket: &Socket| socket.local == address || socket.remote == address;
        let mut mine: Vec<_> = found.sockets.into_iter().filter(mine).collect();
        assert!(
            mine.iter()
                .all(|socket| socket.owner.is_some_and(|owner| owner.tgid == me)),
            "{mine:?}"
        );
        assert_eq!(
            mine.iter().map(|socket| socket.role).collect::<Vec<_>>(),
            [Role::Listener, Role::Server, Role::Client]
        );
        assert_eq!(
            mine.iter().map(|socket| socket.backlog).collect::<Vec<_>>(),
            [false, true, false]
        );
        let counted = mine.iter().all(|socket| socket.cookie.is_some());
        mine.iter_mut()
            .for_each(|socket| (socket.cookie, socket.traffic) = (None, None));
        (mine, counted)
    };
    let (by_diag, counted) = find(Source::Diag);
    assert!(counted);
    let (by_proc, counted) = find(Source::Proc);
    assert!(!counted);
    assert_eq!(by_diag, by_proc);
    drop(client);
}
