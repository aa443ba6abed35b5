//! Who talks to whom right now, also where no agent runs and no BPF program loads.
use super::{
    CliError, SocketsArgs,
    layout::{Align::*, bytes, printable, seconds, table},
    print,
};
use crate::{
    base::ids::ProcKey,
    collect::{
        processes::{Inventory, processes},
        sockets::{Gaps, Limits, Role, Socket, SocketInventory, sockets},
    },
    config::{Overrides, load},
};
use serde::Serialize;
use std::{collections::HashMap, io::Write};

#[derive(Serialize)]
struct Answer<'a> {
    sockets: Vec<Named<'a>>,
    gaps: &'a Gaps,
}

#[derive(Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    socket: &'a Socket,
    comm: Option<&'a str>,
}

pub fn run(args: &SocketsArgs, out: &mut impl Write) -> Result<(), CliError> {
    let config = load(args.file.path(), &Overrides::default())?;
    let processes = processes(&config.host.proc)?;
    let found = sockets(&config.host.proc, &processes, args.source, Limits::default());
    let comms = comms(&processes);
    let text = if args.json {
        json(&found, &comms)
    } else {
        render(&found, &comms)
    };
    print(out, text.as_bytes())
}

type Comms = HashMap<ProcKey, String>;

fn comms(processes: &Inventory) -> Comms {
    let comm = |comm: &[u8]| String::from_utf8_lossy(comm).into_owned();
    processes
        .processes
        .iter()
        .map(|process| (process.key, comm(&process.comm)))
        .collect()
}

fn comm<'a>(socket: &Socket, comms: &'a Comms) -> Option<&'a str> {
    comms.get(&socket.owner?).map(String::as_str)
}

fn json(found: &SocketInventory, comms: &Comms) -> String {
    let name = |socket| Named {
        socket,
        comm: comm(socket, comms),
    };
    let answer = Answer {
        sockets: found.sockets.iter().map(name).collect(),
        gaps: &found.gaps,
    };
    serde_json::to_string(&answer).expect("sockets are plain data") + "\n"
}

fn render(found: &SocketInventory, comms: &Comms) -> String {
    let rows: Vec<_> = found.sockets.iter().map(|socket| row(socket, comms)).collect();
    let columns = [
        ("NETNS", Right),
        ("PID", Right),
        ("COMM", Left),
        ("ROLE", Left),
        ("LOCAL", Left),
        ("REMOTE", Left),
        ("STATE", Left),
        ("SENT", Right),
        ("RECEIVED", Right),
        ("RESENT", Right),
        ("RTT", Right),
    ];
    let mut text = table(columns, &rows);
    for (reason, gap) in found.gaps.iter() {
        text += &format!("{}: {}\n", reason.as_str(), printable(&gap.to_string()));
    }
    text
}

fn row(socket: &Socket, comms: &Comms) -> [String; 11] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let traffic = socket.traffic;
    [
        socket.netns.0.to_string(),
        or_dash(socket.owner.map(|owner| owner.tgid.to_string())),
        or_dash(comm(socket, comms).map(printable)),
        socket.role.as_str().to_owned(),
        socket.local.to_string(),
        or_dash((socket.role != Role::Listener).then(|| socket.remote.to_string())),
        if socket.backlog {
            "backlog"
        } else {
            socket.state.as_str()
        }
        .to_owned(),
        or_dash(traffic.map(|traffic| bytes(traffic.sent_bytes))),
        or_dash(traffic.map(|traffic| bytes(traffic.received_bytes))),
        or_dash(traffic.map(|traffic| traffic.retransmits.to_string())),
        or_dash(traffic.and_then(|traffic| Some(seconds(f64::from(traffic.rtt_us?) / 1e6)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::ids::NetnsId,
        cli::FileArgs,
        collect::sockets::{Source, State, Traffic},
    };
    use std::{fs, net::TcpListener, path::Path};

    fn socket(role: Role, state: State, remote: &str, tgid: Option<u32>) -> Socket {
        Socket {
            netns: NetnsId(4026531833),
            role,
            state,
            local: "10.0.0.1:80".parse().unwrap(),
            remote: remote.parse().unwrap(),
            owner: tgid.map(|tgid| ProcKey { tgid, start_ns: 1 }),
            backlog: false,
            inode: 7,
            cookie: None,
            traffic: None,
        }
    }

    #[test]
    fn as_a_table() {
        let served = Socket {
            traffic: Some(Traffic {
                sent_bytes: 2048,
                received_bytes: 10,
                retransmits: 1,
                rtt_us: Some(250),
            }),
            ..socket(Role::Server, State::CloseWait, "10.0.0.2:4000", Some(7))
        };
        let waiting = Socket {
            backlog: true,
            ..socket(Role::Server, State::Established, "10.0.0.2:4001", None)
        };
        let found = SocketInventory {
            sockets: vec![
                socket(Role::Listener, State::Listen, "0.0.0.0:0", Some(7)),
                served,
                waiting,
            ],
            gaps: Gaps::default(),
        };
        let comms = [(ProcKey { tgid: 7, start_ns: 1 }, "a\u{1b}b".to_owned())].into();
        insta::assert_snapshot!(render(&found, &comms), @r"
             NETNS  PID  COMM      ROLE      LOCAL        REMOTE         STATE          SENT  RECEIVED  RESENT    RTT
        4026531833    7  a\u{1b}b  listener  10.0.0.1:80  -              listen            -         -       -      -
        4026531833    7  a\u{1b}b  server    10.0.0.1:80  10.0.0.2:4000  close_wait  2.0 KiB      10 B       1  250µs
        4026531833    -  -         server    10.0.0.1:80  10.0.0.2:4001  backlog           -         -       -      -
        ");
    }

    /// Both forms, of the machine that this runs on.
    #[test]
    fn of_this_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let me = std::process::id();
        let folder = tempfile::tempdir().unwrap();
        let ran = |json, source, proc: &Path| {
            let config = folder.path().join("t.yaml");
            fs::write(&config, format!("host: {{proc: {proc:?}}}")).unwrap();
            let file = FileArgs { config: Some(config) };
            let mut out = Vec::new();
            run(&SocketsArgs { file, json, source }, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        let proc = Path::new("/proc");
        let answer: serde_json::Value = serde_json::from_str(&ran(true, Source::Auto, proc).unwrap()).unwrap();
        let rows = answer["sockets"].as_array().unwrap();
        let row = rows.iter().find(|row| row["local"] == *address).unwrap();
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            (&row["owner"]["tgid"], &row["comm"]),
            (&me.into(), &comm.trim_end().into())
        );
        assert_eq!((&row["role"], &row["state"]), (&"listener".into(), &"listen".into()));
        let text = ran(false, Source::Proc, proc).unwrap();
        let line = text
            .lines()
            .find(|line| line.contains(&format!("listener  {address} ")))
            .unwrap();
        assert!(line.contains(&format!(" {me} ")), "{line}");
        // Without processes there is nothing to go by; of this one nothing can be read.
        let empty = folder.path();
        fs::create_dir(empty.join("7")).unwrap();
        fs::write(empty.join("7/stat"), "").unwrap();
        let text = ran(false, Source::Auto, empty).unwrap();
        assert!(
            text.ends_with("\nnamespaces_hidden: a process that cannot be read\n"),
            "{text}"
        );
        assert!(matches!(
            ran(false, Source::Auto, Path::new("/nowhere")),
            Err(CliError::Processes(_))
        ));
    }
}
