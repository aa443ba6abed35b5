use super::{
    CliError, InspectArgs,
    client::{ClientError, percent_encode},
    layout::{Align::*, age, bytes, printable, seconds, table, yes_no},
    print, print_json,
};
use crate::{
    base::clock::Clock,
    http::api::{Container, Destination, Dns, Listen, OpenFile, Requests},
};
use std::{collections::BTreeMap, io::Write};

pub fn run(args: &InspectArgs, clock: &dyn Clock, out: &mut impl Write) -> Result<(), CliError> {
    // Every id starts with a slash; leaving it out is a slip that has only one meaning.
    let id = format!("/{}", args.id.trim_start_matches('/'));
    let path = format!("/api/v1/containers/{}", percent_encode(&id));
    let body = args.admin.client()?.get(&path)?;
    if args.json {
        return print_json(out, &body);
    }
    let container = serde_json::from_slice(&body).map_err(|source| ClientError::Answer { source })?;
    print(out, render(&container, clock.wall_ns() as f64 / 1e9).as_bytes())
}

pub fn render(container: &Container, now_unix: f64) -> String {
    let about = [
        ["container".to_owned(), printable(&container.id)],
        ["application".to_owned(), printable(&container.app_id)],
        ["runtime".to_owned(), runtime(container)],
        ["age".to_owned(), age(now_unix - container.since_unix)],
        ["in /metrics".to_owned(), yes_no(container.exposed)],
        ["processes".to_owned(), container.processes.to_string()],
        ["runs".to_owned(), printable(&container.application_types.join(", "))],
        ["restarts".to_owned(), container.restarts.to_string()],
        ["oom kills".to_owned(), container.oom_kills.to_string()],
    ];
    let about: String = about
        .iter()
        .map(|[name, value]| format!("{}\n", format!("{name:<13}{value}").trim_end()))
        .collect();
    format!(
        "{about}\n{}\n{}\n{}{}{}{}",
        destinations(&container.destinations),
        listens(&container.listens),
        files(&container.files, container.files_left_out),
        requests(&container.requests),
        dns(&container.dns),
        unparsed(&container.unparsed)
    )
}

/// Who runs it, and from what.
fn runtime(container: &Container) -> String {
    let Some(described) = &container.runtime else {
        return "none that knows it".to_owned();
    };
    let unit = described.unit.as_ref();
    let what = unit.map_or(&described.image, |unit| &unit.kind);
    let triggered = unit.map(|unit| unit.triggered_by.as_str()).filter(|by| !by.is_empty());
    let triggered = triggered.map(|by| format!(", by {by}")).unwrap_or_default();
    printable(format!("{} {what}{triggered}", described.runtime).trim_end())
}

fn destinations(destinations: &[Destination]) -> String {
    if destinations.is_empty() {
        return "no destinations\n".to_owned();
    }
    let mut destinations: Vec<_> = destinations.iter().collect();
    destinations.sort_by_key(|d| (&d.destination, &d.actual_destination));
    let rows: Vec<_> = destinations
        .into_iter()
        .map(|d| {
            let mean_connect = if d.successful_connects == 0 {
                String::new()
            } else {
                seconds(d.connect_seconds / d.successful_connects as f64)
            };
            [
                printable(&d.destination),
                printable(&d.actual_destination),
                d.successful_connects.to_string(),
                d.active.to_string(),
                mean_connect,
                bytes(d.sent_bytes),
                bytes(d.received_bytes),
                d.retransmits.to_string(),
                counts(&d.closes),
                d.failed_connects.to_string(),
                counts(&d.failures),
            ]
        })
        .collect();
    let columns = [
        ("DESTINATION", Left),
        ("ACTUAL", Left),
        ("CONNECTS", Right),
        ("ACTIVE", Right),
        ("MEAN CONNECT", Right),
        ("SENT", Right),
        ("RECEIVED", Right),
        ("RESENT", Right),
        ("CLOSED BY", Left),
        ("FAILED", Right),
        ("FAILURES", Left),
    ];
    table(columns, &rows)
}

/// Those that are not zero.
fn counts(by_word: &BTreeMap<String, u64>) -> String {
    let some = by_word.iter().filter(|(_, count)| **count > 0);
    let words: Vec<_> = some.map(|(word, count)| format!("{word} {count}")).collect();
    printable(&words.join(", "))
}

fn listens(listens: &[Listen]) -> String {
    if listens.is_empty() {
        return "no listens\n".to_owned();
    }
    let mut listens: Vec<_> = listens.iter().collect();
    listens.sort_by_key(|listen| &listen.address);
    let rows: Vec<_> = listens
        .into_iter()
        .map(|listen| {
            [
                printable(&listen.address),
                yes_no(listen.open),
                listen.sockets.to_string(),
                listen.accepted.to_string(),
                listen.active.to_string(),
                bytes(listen.sent_bytes),
                bytes(listen.received_bytes),
                listen.retransmits.to_string(),
                counts(&listen.closes),
            ]
        })
        .collect();
    let columns = [
        ("LISTEN", Left),
        ("OPEN", Left),
        ("SOCKETS", Right),
        ("ACCEPTED", Right),
        ("ACTIVE", Right),
        ("SENT", Right),
        ("RECEIVED", Right),
        ("RESENT", Right),
        ("CLOSED BY", Left),
    ];
    table(columns, &rows)
}

fn files(files: &[OpenFile], left_out: u64) -> String {
    if files.is_empty() && left_out == 0 {
        return "no files open for writing\n".to_owned();
    }
    let rows: Vec<_> = files
        .iter()
        .map(|file| {
            let more = if file.truncated { "…" } else { "" };
            let words = [(file.append, "append"), (file.deleted, "deleted")];
            let words = words.iter().filter_map(|(is, word)| is.then_some(*word));
            [
                printable(&file.path) + more,
                file.mount_id.to_string(),
                printable(&file.device),
                file.inode.to_string(),
                file.processes.to_string(),
                words.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    let columns = [
        ("OPEN FOR WRITING", Left),
        ("MOUNT", Right),
        ("DEVICE", Right),
        ("INODE", Right),
        ("PROCESSES", Right),
        ("", Left),
    ];
    let mut text = table(columns, &rows);
    if left_out > 0 {
        text.push_str(&format!("and {left_out} more\n"));
    }
    text
}

/// Nothing where there were none.
fn requests(of: &[Requests]) -> String {
    if of.is_empty() {
        return String::new();
    }
    let mut requests: Vec<_> = of.iter().collect();
    requests.sort_by_key(|of| (&of.role, &of.protocol, &of.destination, &of.actual_destination));
    let rows: Vec<_> = requests
        .into_iter()
        .map(|of| {
            let count = total(of.counts.values().copied());
            let mean = if count > 0 {
                seconds(of.seconds / count as f64)
            } else {
                String::new()
            };
            [
                printable(&of.protocol),
                printable(&of.role),
                printable(of.destination.as_deref().unwrap_or_default()),
                printable(of.actual_destination.as_deref().unwrap_or_default()),
                count.to_string(),
                mean,
                counts(&of.counts),
            ]
        })
        .collect();
    let columns = [
        ("REQUESTS", Left),
        ("AS", Left),
        ("DESTINATION", Left),
        ("ACTUAL", Left),
        ("COUNT", Right),
        ("MEAN TIME", Right),
        ("STATUS", Left),
    ];
    format!("\n{}", table(columns, &rows))
}

/// An agent may say anything: nothing overflows.
fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Nothing where nobody asked.
fn dns(of: &Dns) -> String {
    let mut text = String::new();
    if !of.asked.is_empty() {
        let rows: Vec<_> = of
            .asked
            .iter()
            .map(|row| {
                [
                    printable(&row.domain),
                    printable(&row.request_type),
                    printable(&row.status),
                    row.count.to_string(),
                ]
            })
            .collect();
        let columns = [
            ("DNS QUESTION", Left),
            ("TYPE", Left),
            ("STATUS", Left),
            ("COUNT", Right),
        ];
        text = format!("\n{}", table(columns, &rows));
    }
    let asked = total(of.asked.iter().map(|row| row.count));
    let answered = total(of.answered.values().copied());
    for (what, count, time, missing) in [
        ("questions to name servers", asked, of.asked_seconds, of.asked_in_vain),
        ("questions answered", answered, of.answered_seconds, of.left_unanswered),
    ] {
        if count > 0 || missing > 0 {
            let mean = if count > 0 {
                format!(", {} each", seconds(time / count as f64))
            } else {
                String::new()
            };
            text.push_str(&format!("\n{what} {count}{mean}, without an answer {missing}"));
        }
    }
    if !of.answered.is_empty() {
        text.push_str(&format!(" ({})", counts(&of.answered)));
    }
    if text.is_empty() { text } else { text + "\n" }
}

fn unparsed(of: &BTreeMap<String, u64>) -> String {
    if of.is_empty() {
        return String::new();
    }
    format!("\nnot understood: {}\n", counts(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::ManualClock,
        cli::{AdminArgs, client::tests::Agent},
    };

    const ANSWER: &str = r#"{"id":"/system.slice/app.service","app_id":"/system.slice/app.service","exposed":true,
        "since_unix":88480.0,"processes":4,"application_types":["nginx","php"],"restarts":2,"oom_kills":1,"destinations":[
        {"destination":"10.0.0.9:6379","actual_destination":"10.0.0.9:6379","successful_connects":10,
         "failed_connects":0,"active":2,"connect_seconds":0.0025,"sent_bytes":2048,"received_bytes":5242880,
         "retransmits":3,"failures":{},"closes":{"local":7,"peer":1,"reset":0,"timeout":0}},
        {"destination":"10.0.0.5:5432","actual_destination":"","successful_connects":0,"failed_connects":13,"active":0,
         "connect_seconds":0.0,"sent_bytes":0,"received_bytes":0,"retransmits":0,
         "failures":{"timeout":1,"refused":12},"closes":{}}],
        "listens":[
        {"address":"[::]:443","open":true,"sockets":2,"accepted":9,"active":4,"sent_bytes":1024,"received_bytes":10,
         "retransmits":1,"closes":{"local":0,"peer":5}},
        {"address":"127.0.0.1:80","open":false,"sockets":0,"accepted":0,"active":0,"sent_bytes":0,"received_bytes":0,
         "retransmits":0,"closes":{}}],
        "files":[
        {"path":"/var/log/app.log","truncated":false,"mount_id":29,"device":"259:1","inode":1311,"deleted":false,
         "append":true,"processes":4},
        {"path":"/tmp/deep/","truncated":true,"mount_id":30,"device":"0:45","inode":7,"deleted":true,
         "append":false,"processes":1}],"files_left_out":12,
        "requests":[
        {"protocol":"redis","role":"client","destination":"10.0.0.9:6379","actual_destination":"10.0.0.9:6379",
         "counts":{"ok":1998,"failed":2},"seconds":0.5},
        {"protocol":"http","role":"server","destination":null,"actual_destination":null,
         "counts":{"2xx":7,"4xx":2,"5xx":1},"seconds":0.02},
        {"protocol":"postgres","role":"client","destination":"~other","actual_destination":"","counts":{},"seconds":0.0}],
        "dns":{"asked":[{"domain":"db.shop.svc","request_type":"TypeA","status":"ok","count":3},
         {"domain":"db.shop.svc.search_path_suffix","request_type":"TypeAAAA","status":"nxdomain","count":1}],
         "asked_seconds":0.004,"asked_in_vain":2,"answered":{"ok":7,"servfail":1},"answered_seconds":0.008,"left_unanswered":0},
        "unparsed":{"dns gap":5}}"#;

    fn ran(agent: &Agent, id: &str, json: bool) -> Result<String, CliError> {
        let args = InspectArgs {
            id: id.to_owned(),
            json,
            admin: AdminArgs {
                admin_socket: Some(agent.socket()),
            },
        };
        let mut out = Vec::new();
        let clock = ManualClock::new(0, 0, 100_000_000_000_000);
        run(&args, &clock, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn shows_everything_about_one_container() {
        let agent = Agent::answering("200 OK", ANSWER);
        insta::assert_snapshot!(ran(&agent, "system.slice/app.service", false).unwrap(), @r"
        container    /system.slice/app.service
        application  /system.slice/app.service
        runtime      none that knows it
        age          3h12m
        in /metrics  yes
        processes    4
        runs         nginx, php
        restarts     2
        oom kills    1

        DESTINATION    ACTUAL         CONNECTS  ACTIVE  MEAN CONNECT     SENT  RECEIVED  RESENT  CLOSED BY        FAILED  FAILURES
        10.0.0.5:5432                        0       0                    0 B       0 B       0                       13  refused 12, timeout 1
        10.0.0.9:6379  10.0.0.9:6379        10       2         250µs  2.0 KiB   5.0 MiB       3  local 7, peer 1       0

        LISTEN        OPEN  SOCKETS  ACCEPTED  ACTIVE     SENT  RECEIVED  RESENT  CLOSED BY
        127.0.0.1:80  no          0         0       0      0 B       0 B       0
        [::]:443      yes         2         9       4  1.0 KiB      10 B       1  peer 5

        OPEN FOR WRITING  MOUNT  DEVICE  INODE  PROCESSES
        /var/log/app.log     29   259:1   1311          4  append
        /tmp/deep/…          30    0:45      7          1  deleted
        and 12 more

        REQUESTS  AS      DESTINATION    ACTUAL         COUNT  MEAN TIME  STATUS
        postgres  client  ~other                            0
        redis     client  10.0.0.9:6379  10.0.0.9:6379   2000      250µs  failed 2, ok 1998
        http      server                                   10      2.0ms  2xx 7, 4xx 2, 5xx 1

        DNS QUESTION                    TYPE      STATUS    COUNT
        db.shop.svc                     TypeA     ok            3
        db.shop.svc.search_path_suffix  TypeAAAA  nxdomain      1

        questions to name servers 4, 1.0ms each, without an answer 2
        questions answered 8, 1.0ms each, without an answer 0 (ok 7, servfail 1)

        not understood: dns gap 5
        ");
        assert_eq!(
            agent.asked(),
            "GET /api/v1/containers/%2Fsystem.slice%2Fapp.service HTTP/1.1"
        );
    }

    #[test]
    fn says_what_is_not_there() {
        let container = Container {
            id: "/a".to_owned(),
            app_id: "/a".to_owned(),
            exposed: false,
            since_unix: 0.0,
            processes: 0,
            application_types: Vec::new(),
            restarts: 0,
            oom_kills: 0,
            runtime: None,
            destinations: Vec::new(),
            listens: Vec::new(),
            files: Vec::new(),
            files_left_out: 0,
            requests: Vec::new(),
            dns: Dns::default(),
            unparsed: BTreeMap::new(),
        };
        insta::assert_snapshot!(render(&container, 90.0), @r"
        container    /a
        application  /a
        runtime      none that knows it
        age          1m
        in /metrics  no
        processes    0
        runs
        restarts     0
        oom kills    0

        no destinations

        no listens

        no files open for writing
        ");
    }

    #[test]
    fn json_is_the_answer_as_it_is() {
        let agent = Agent::answering("200 OK", ANSWER);
        assert_eq!(
            ran(&agent, "/system.slice/app.service", true).unwrap(),
            format!("{ANSWER}\n")
        );
    }

    #[test]
    fn a_container_nobody_knows_is_an_error() {
        let agent = Agent::answering("404 Not Found", r#"{"error":"no container /b"}"#);
        assert_eq!(ran(&agent, "/b", false).unwrap_err().to_string(), "no container /b");
    }
}
