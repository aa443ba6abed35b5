//! `tarsier tap CONTAINER`: prints its requests as they are answered, until Ctrl-C or until the agent ends.
use super::{
    CliError, TapArgs,
    client::{ClientError, percent_encode},
    events::time,
    layout::{printable, printable_json},
};
use crate::http::overheard::{Event, Exchange, Why};
use std::{
    io::{self, Write},
    time::Duration,
};

pub fn run(args: &TapArgs, out: &mut impl Write) -> Result<(), CliError> {
    let mut ended = Ok(());
    let path = format!("/api/v1/containers/{}/tap", percent_encode(&args.id));
    args.admin.client()?.follow(&path, |data| {
        print(data, args.json, out).unwrap_or_else(|err| {
            ended = Err(err);
            false
        })
    })?;
    match ended {
        // As in `tarsier tap /a | head`.
        Err(CliError::Output(err)) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

/// Says whether more is to come.
fn print(data: &[u8], json: bool, out: &mut impl Write) -> Result<bool, CliError> {
    let event = serde_json::from_slice(data).map_err(|source| ClientError::Answer { source })?;
    let line = if json { printable_json(data) } else { render(&event) };
    out.write_all((line + "\n").as_bytes())?;
    out.flush()?;
    match event {
        Event::Exchange(_) | Event::Dropped { .. } => Ok(true),
        Event::Ended {
            why: Why::Agent | Why::Configuration,
        } => Ok(false),
        Event::Ended { why: Why::TooSlow } => Err(CliError::TooSlow),
        Event::Ended { why: Why::Failed } => Err(CliError::TapFailed),
    }
}

fn render(event: &Event) -> String {
    match event {
        Event::Exchange(exchange) => line(exchange),
        Event::Dropped { exchanges } => format!("{exchanges} more were left out"),
        Event::Ended { why } => match why {
            Why::TooSlow => "read too slowly".to_owned(),
            Why::Configuration => "admin.tap has changed".to_owned(),
            Why::Agent => "the agent ends".to_owned(),
            Why::Failed => "the tap has failed".to_owned(),
        },
    }
}

fn line(of: &Exchange) -> String {
    let status = of.code.map_or_else(|| of.status.clone(), |code| code.to_string());
    let took = Duration::try_from_secs_f64(of.seconds.max(0.0)).unwrap_or_default();
    let took = format!("{:.3}ms", took.as_secs_f64() * 1e3);
    // A command's text begins with it, a path does not.
    let asked = match (&of.verb, &of.text) {
        (Some(verb), Some(text)) if of.protocol == "http" => format!("{verb} {text}"),
        (_, Some(text)) => text.clone(),
        (Some(verb), None) => verb.clone(),
        (None, None) => "-".to_owned(),
    };
    let line = format!(
        "{}  {:<6}  {:<8}  {:<21}  {status:<6}  {took:>10}  {asked}",
        time(of.time_unix),
        of.role,
        of.protocol,
        of.peer
    );
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{AdminArgs, client::tests::Agent};

    const STREAM: &str = concat!(
        ": from here on\n\n",
        "event: exchange\ndata: {\"event\":\"exchange\",\"time_unix\":1.5,\"protocol\":\"http\",\"role\":\"server\",\"pid\":7,\"peer\":\"10.0.0.2:4000\",\"status\":\"4xx\",\"code\":404,\"seconds\":0.0025,\"verb\":\"GET\",\"text\":\"/a\\u001b?\"}\n\n",
        "event: exchange\ndata: {\"event\":\"exchange\",\"time_unix\":2.0,\"protocol\":\"redis\",\"role\":\"client\",\"pid\":7,\"peer\":\"[::1]:6379\",\"status\":\"failed\",\"code\":null,\"seconds\":-1,\"verb\":\"SET\",\"text\":\"SET ? ?\"}\n\n",
        ": still here\n\n",
        "event: exchange\ndata: {\"event\":\"exchange\",\"time_unix\":2.0,\"protocol\":\"postgres\",\"role\":\"client\",\"pid\":7,\"peer\":\"[::1]:5432\",\"status\":\"ok\",\"code\":null,\"seconds\":1.0,\"verb\":\"SELECT\",\"text\":null}\n\n",
        "event: exchange\ndata: {\"event\":\"exchange\",\"time_unix\":2.0,\"protocol\":\"http\",\"role\":\"client\",\"pid\":7,\"peer\":\"[::1]:80\",\"status\":\"2xx\",\"code\":200,\"seconds\":1e300,\"verb\":null,\"text\":null}\n\n",
        "event: dropped\ndata: {\"event\":\"dropped\",\"exchanges\":12}\n\n",
    );

    fn ended(why: &str) -> String {
        format!("{STREAM}event: ended\ndata: {{\"event\":\"ended\",\"why\":\"{why}\"}}\n\n")
    }

    fn args(agent: &Agent, json: bool) -> TapArgs {
        TapArgs {
            id: "/docker/web".to_owned(),
            json,
            admin: AdminArgs {
                admin_socket: Some(agent.socket()),
            },
        }
    }

    fn ran(stream: &str, json: bool) -> (String, Result<(), CliError>) {
        let agent = Agent::answering("200 OK", stream);
        let mut out = Vec::new();
        let result = run(&args(&agent, json), &mut out);
        assert_eq!(agent.asked(), "GET /api/v1/containers/%2Fdocker%2Fweb/tap HTTP/1.1");
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn a_line_for_each_until_the_agent_ends() {
        let (text, result) = ran(&ended("agent"), false);
        result.unwrap();
        insta::assert_snapshot!(text, @r"
        1970-01-01T00:00:01.500Z  server  http      10.0.0.2:4000          404        2.500ms  GET /a\u{1b}?
        1970-01-01T00:00:02.000Z  client  redis     [::1]:6379             failed     0.000ms  SET ? ?
        1970-01-01T00:00:02.000Z  client  postgres  [::1]:5432             ok      1000.000ms  SELECT
        1970-01-01T00:00:02.000Z  client  http      [::1]:80               200        0.000ms  -
        12 more were left out
        the agent ends
        ");
    }

    #[test]
    fn json_is_what_the_agent_sends_one_object_a_line() {
        let (text, result) = ran(&ended("configuration"), true);
        result.unwrap();
        let sent: Vec<_> = STREAM.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..sent.len()], sent);
        assert_eq!(lines.len(), sent.len() + 1);
    }

    #[test]
    fn who_was_too_slow_fails_and_so_does_what_breaks_off() {
        let message = |stream: &str| ran(stream, false).1.unwrap_err().to_string();
        assert_eq!(message(&ended("too_slow")), "read too slowly");
        assert_eq!(
            message(&ended("failed")),
            "the tap has failed, the agent's log says why"
        );
        assert!(message(STREAM).ends_with("broke off"));
        let (_, result) = ran("data: {}\n\n", false);
        assert!(matches!(result, Err(CliError::Client(ClientError::Answer { .. }))));
    }

    #[test]
    fn a_reader_that_has_seen_enough_ends_it() {
        let agent = Agent::answering("200 OK", STREAM);
        run(&args(&agent, false), &mut crate::cli::tests::Closed).unwrap();
    }
}
