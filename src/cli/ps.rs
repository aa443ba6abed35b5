use super::{
    CliError, PsArgs,
    client::ClientError,
    layout::{Align::*, age, printable, table, yes_no},
    print, print_json,
};
use crate::{base::clock::Clock, http::api::ContainerList};
use std::io::Write;

pub fn run(args: &PsArgs, clock: &dyn Clock, out: &mut impl Write) -> Result<(), CliError> {
    let body = args.admin.client()?.get("/api/v1/containers")?;
    if args.json {
        return print_json(out, &body);
    }
    let list = serde_json::from_slice(&body).map_err(|source| ClientError::Answer { source })?;
    print(out, render(&list, clock.wall_ns() as f64 / 1e9).as_bytes())
}

pub fn render(list: &ContainerList, now_unix: f64) -> String {
    let mut containers: Vec<_> = list.containers.iter().collect();
    containers.sort_by(|a, b| a.id.cmp(&b.id));
    let rows: Vec<_> = containers
        .into_iter()
        .map(|container| {
            [
                printable(&container.id),
                container.processes.to_string(),
                container.destinations.to_string(),
                container.listens.to_string(),
                yes_no(container.exposed),
                age(now_unix - container.since_unix),
            ]
        })
        .collect();
    let columns = [
        ("CONTAINER", Left),
        ("PROCESSES", Right),
        ("DESTINATIONS", Right),
        ("LISTENS", Right),
        ("EXPOSED", Left),
        ("AGE", Right),
    ];
    let listed = table(columns, &rows);
    match list.late {
        0 => listed,
        late => format!("{listed}{late} more did not answer in time\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::ManualClock,
        cli::{AdminArgs, client::tests::Agent},
    };
    use std::path::PathBuf;

    const ANSWER: &str = r#"{"containers":[
        {"id":"/system.slice/nginx.service","app_id":"/system.slice/nginx.service","processes":5,"since_unix":88480.0,
         "exposed":true,"destinations":12,"listens":2},
        {"id":"/standalone/\u001b[31m","app_id":"","processes":1,"since_unix":99990.5,"exposed":false,
         "destinations":0,"listens":0}],"late":0}"#;

    fn ran(socket: PathBuf, json: bool) -> Result<String, CliError> {
        let admin = AdminArgs {
            admin_socket: Some(socket),
        };
        let mut out = Vec::new();
        let clock = ManualClock::new(0, 0, 100_000_000_000_000);
        run(&PsArgs { json, admin }, &clock, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn lists_what_the_agent_knows() {
        let agent = Agent::answering("200 OK", ANSWER);
        insta::assert_snapshot!(ran(agent.socket(), false).unwrap(), @r"
        CONTAINER                    PROCESSES  DESTINATIONS  LISTENS  EXPOSED    AGE
        /standalone/\u{1b}[31m               1             0        0  no          9s
        /system.slice/nginx.service          5            12        2  yes      3h12m
        ");
        assert_eq!(agent.asked(), "GET /api/v1/containers HTTP/1.1");
    }

    #[test]
    fn says_that_some_are_missing() {
        let list = ContainerList {
            containers: Vec::new(),
            late: 3,
        };
        assert!(render(&list, 0.0).ends_with("\n3 more did not answer in time\n"));
    }

    #[test]
    fn json_is_the_answer_as_it_is() {
        let agent = Agent::answering("200 OK", ANSWER);
        assert_eq!(ran(agent.socket(), true).unwrap(), format!("{ANSWER}\n"));
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        let agent = Agent::answering("200 OK", r#"{"containers":[{}]}"#);
        let err = ran(agent.socket(), false).unwrap_err();
        assert!(matches!(err, CliError::Client(ClientError::Answer { .. })), "{err:?}");
    }
}
