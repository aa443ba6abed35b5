//! `tarsier explain PID` and `tarsier explain ADDRESS:PORT`.
use super::{
    CliError, ExplainArgs,
    client::{ClientError, percent_encode},
    layout::printable,
    print, print_json,
};
use crate::http::explained::{Address, Explained, Process};
use std::{fmt::Write as _, io::Write};

pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<(), CliError> {
    let path = format!("/api/v1/explain/{}", percent_encode(&args.subject));
    let body = args.admin.client()?.get(&path)?;
    if args.json {
        return print_json(out, &body);
    }
    let explained = serde_json::from_slice(&body).map_err(|source| ClientError::Answer { source })?;
    print(out, render(&explained).as_bytes())
}

fn render(explained: &Explained) -> String {
    let mut text = String::new();
    let rows = match explained {
        Explained::Process(process) => of_process(process),
        Explained::Address(address) => of_address(address),
    };
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or_default() + 2;
    for (what, said) in rows {
        let line = format!("{what:<width$}{}", printable(&said));
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    }
    text
}

type Rows = Vec<(&'static str, String)>;

fn of_process(of: &Process) -> Rows {
    let mut rows = vec![("process", format!("{} {}", of.pid, of.name))];
    for (at, line) in of.cgroup.file.iter().enumerate() {
        rows.push((if at == 0 { "cgroup file" } else { "" }, line.clone()));
    }
    let removed = if of.cgroup.removed { ", which is removed" } else { "" };
    let path_rule = match of.cgroup.rule.as_str() {
        "pod_of_cpu" => "v1 cpu: a pod's path goes before all others",
        "pod_of_memory" => "v1 memory: a pod's path goes before all others",
        "unified" => "v2, the unified hierarchy",
        "cpu" => "v1 cpu: the unified path is the root",
        "memory" => "v1 memory: the unified path and that of cpu are the root",
        "systemd" => "v1 systemd: all others are the root",
        "nowhere" => "all of them are the root",
        other => other,
    };
    rows.push(("path", format!("{}{removed}  ({path_rule})", of.cgroup.path)));
    if of.cgroup.cgroup_root != "/" {
        rows.push(("", format!("seen from {}", of.cgroup.cgroup_root)));
    }
    let by = match of.placed.cgroup_id {
        Some(id) => format!("cgroup {id}"),
        None => "/proc".to_owned(),
    };
    rows.push((
        "placed by",
        match &of.placed.path {
            None => format!("{by}, whose path is being asked for"),
            Some(_) if of.placed.same => format!("{by}, the same path"),
            Some(path) => format!("{by}, as {path}"),
        },
    ));
    if let Some(owner) = &of.owner {
        let passed = if owner.passed.is_empty() {
            String::new()
        } else {
            format!(", after {}", owner.passed.join(", "))
        };
        let rule = owner.rule.as_deref().unwrap_or("none");
        let id = owner.id.as_deref().map(|id| format!(" {id}")).unwrap_or_default();
        rows.push(("owner", format!("{}{id}  (rule {rule}{passed})", owner.is)));
    }
    if let Some(runtimes) = &of.runtimes {
        let answers = runtimes
            .answers
            .iter()
            .map(|of| format!("{} {}", of.runtime, of.answer));
        let answers: Vec<_> = answers.collect();
        let answers = if answers.is_empty() {
            "nobody has been asked".to_owned()
        } else {
            answers.join(", ")
        };
        rows.push(("runtimes", format!("{}: {answers}", runtimes.asked_for)));
    }
    if let Some(naming) = &of.naming {
        let rule = naming.rule.as_deref().map(|rule| format!("  (rule {rule})"));
        rows.push(("name", naming.state.clone() + &rule.unwrap_or_default()));
    }
    if let Some(filter) = &of.filter {
        let pattern = filter.pattern.as_deref().map(|pattern| format!(" by {pattern}"));
        let pattern = pattern.unwrap_or_default();
        rows.push(("filter", format!("{}{pattern}  ({})", filter.verdict, filter.id)));
    }
    rows.push((
        "container",
        match (&of.container_id, &of.why_none) {
            (Some(id), _) if of.shown => id.clone(),
            (Some(id), _) => format!("{id}, hidden until a runtime has told its name"),
            (None, why) => format!("none: {}", why.as_deref().unwrap_or("nobody knows why")),
        },
    ));
    rows
}

fn of_address(of: &Address) -> Rows {
    let mut rows = vec![("address", of.address.clone())];
    for connects in &of.connects {
        let by = if connects.destination == connects.actual_destination || connects.actual_destination.is_empty() {
            String::new()
        } else {
            format!(", {} by {}", connects.actual_destination, connects.destination)
        };
        let active = connects.active;
        rows.push(("connects", format!("{}  ({active} active{by})", connects.container_id)));
    }
    for listens in &of.listens {
        let state = if listens.open { "open" } else { "closed" };
        rows.push((
            "listens",
            format!("{}  ({state}, {})", listens.container_id, listens.address),
        ));
    }
    if of.connects.is_empty() && of.listens.is_empty() {
        rows.push(("", "no container connects to it or listens on it".to_owned()));
    }
    for verdict in &of.verdicts {
        let what = match verdict.socket.as_str() {
            "connect_from_host" => "a connect from the host",
            "connect_from_container" => "a connect from another network namespace",
            "accept_in_host" => "one accepted in the host",
            "accept_in_container" => "one accepted in another network namespace",
            "listen" => "a listen",
            other => other,
        };
        let fate = verdict
            .hidden_by
            .as_deref()
            .map_or_else(|| "is shown".to_owned(), |rule| format!("is left out: {rule}"));
        rows.push(("filter", format!("{what} {fate}")));
    }
    if of.late > 0 {
        rows.push(("", format!("{} containers did not answer in time", of.late)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{AdminArgs, client::tests::Agent};

    const POD: &str = r#"{"subject":"process","pid":4242,"name":"a\u001bpp","start_boottime_ns":7,
        "cgroup":{"file":["3:cpu:/kubepods/pod1/01","0::/reserved.slice/containerd.service"],"path":"/kubepods/pod1/01",
            "rule":"pod_of_cpu","removed":false,"cgroup_root":"/"},
        "placed":{"by":"cgroup","cgroup_id":77,"path":"/kubepods/pod1/01","same":true},
        "owner":{"rule":"kubernetes","passed":["talos_init","users_and_init"],"is":"container","id":"/pod/1/01"},
        "runtimes":{"asked_for":"container 01","answers":[{"runtime":"docker","answer":"absent"},
            {"runtime":"containerd","answer":"known"}]},
        "naming":{"state":"named","rule":"pod"},
        "filter":{"id":"/k8s/shop/web-0/app","verdict":"shown","pattern":"^/k8s/"},
        "container_id":"/k8s/shop/web-0/app","shown":true,"why_none":null}"#;
    const BARE: &str = r#"{"subject":"process","pid":7,"name":"sh","start_boottime_ns":7,
        "cgroup":{"file":["0::/"],"path":"/","rule":"nowhere","removed":false,"cgroup_root":"/payload"},
        "placed":{"by":"proc","cgroup_id":null,"path":"/other","same":false},
        "owner":{"rule":null,"passed":[],"is":"standalone","id":null},"runtimes":null,"naming":null,
        "filter":null,"container_id":null,"shown":false,"why_none":"standalone_off"}"#;
    const ADDRESS: &str = r#"{"subject":"address","address":"10.0.0.9:80",
        "connects":[{"container_id":"/a","destination":"10.0.0.9:80","actual_destination":"10.0.0.9:80","active":2},
            {"container_id":"/b","destination":"10.96.0.1:80","actual_destination":"10.0.0.9:80","active":0}],
        "listens":[{"container_id":"/c","address":"0.0.0.0:80","open":true}],
        "verdicts":[{"socket":"connect_from_host","hidden_by":null},{"socket":"listen","hidden_by":"ephemeral_port"}],
        "late":1}"#;

    fn ran(body: &str, subject: &str, json: bool) -> (String, String) {
        let agent = Agent::answering("200 OK", body);
        let args = ExplainArgs {
            subject: subject.to_owned(),
            json,
            admin: AdminArgs {
                admin_socket: Some(agent.socket()),
            },
        };
        let mut out = Vec::new();
        run(&args, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), agent.asked())
    }

    #[test]
    fn a_process_of_a_container() {
        let (text, asked) = ran(POD, "4242", false);
        insta::assert_snapshot!(text, @r"
        process      4242 a\u{1b}pp
        cgroup file  3:cpu:/kubepods/pod1/01
                     0::/reserved.slice/containerd.service
        path         /kubepods/pod1/01  (v1 cpu: a pod's path goes before all others)
        placed by    cgroup 77, the same path
        owner        container /pod/1/01  (rule kubernetes, after talos_init, users_and_init)
        runtimes     container 01: docker absent, containerd known
        name         named  (rule pod)
        filter       shown by ^/k8s/  (/k8s/shop/web-0/app)
        container    /k8s/shop/web-0/app
        ");
        assert_eq!(asked, "GET /api/v1/explain/4242 HTTP/1.1");
    }

    #[test]
    fn a_process_of_none() {
        insta::assert_snapshot!(ran(BARE, "7", false).0, @r"
        process      7 sh
        cgroup file  0::/
        path         /  (all of them are the root)
                     seen from /payload
        placed by    /proc, as /other
        owner        standalone  (rule none)
        container    none: standalone_off
        ");
    }

    #[test]
    fn an_address() {
        let (text, asked) = ran(ADDRESS, "[::1]:80", false);
        insta::assert_snapshot!(text, @r"
        address   10.0.0.9:80
        connects  /a  (2 active)
        connects  /b  (0 active, 10.0.0.9:80 by 10.96.0.1:80)
        listens   /c  (open, 0.0.0.0:80)
        filter    a connect from the host is shown
        filter    a listen is left out: ephemeral_port
                  1 containers did not answer in time
        ");
        assert_eq!(asked, "GET /api/v1/explain/%5B%3A%3A1%5D%3A80 HTTP/1.1");
    }

    #[test]
    fn json_is_the_answer_as_it_is() {
        assert_eq!(ran(BARE, "7", true).0, format!("{BARE}\n"));
    }
}
