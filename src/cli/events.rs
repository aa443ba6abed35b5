//! `tarsier events --follow`: prints what becomes of processes and containers until Ctrl-C, or until the agent ends.
use super::{
    CliError, EventsArgs,
    client::ClientError,
    layout::{printable, printable_json},
};
use crate::http::event::{Event, Process, What};
use humantime_serde::re::humantime;
use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

pub fn run(args: &EventsArgs, out: &mut impl Write) -> Result<(), CliError> {
    let mut ended = Ok(());
    args.admin.client()?.follow("/api/v1/events", |data| {
        let shown = line(data, args.json).map_err(CliError::from).and_then(|(line, last)| {
            out.write_all(line.as_bytes())?;
            out.flush()?;
            match last {
                Last::Lagged(lost) => Err(CliError::Lagged { lost }),
                last => Ok(last == Last::No),
            }
        });
        shown.unwrap_or_else(|err| {
            ended = Err(err);
            false
        })
    })?;
    match ended {
        // As in `tarsier events --follow | head`.
        Err(CliError::Output(err)) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    No,
    Lagged(u64),
    Ended,
}

fn line(data: &[u8], json: bool) -> Result<(String, Last), ClientError> {
    let event: Event = serde_json::from_slice(data).map_err(|source| ClientError::Answer { source })?;
    let last = match event.what {
        What::Lagged { lost } => Last::Lagged(lost),
        What::Ended => Last::Ended,
        _ => Last::No,
    };
    let line = if json { printable_json(data) } else { render(&event) };
    Ok((line + "\n", last))
}

fn render(event: &Event) -> String {
    let of_process = |process: &Process, container: &str| format!("{container}  {} {}", process.pid, process.name);
    let nobody = "-";
    let text = match &event.what {
        What::ProcessStarted { process, container_id } => of_process(process, container_id),
        What::ProcessMoved { process, container_id } | What::ProcessExited { process, container_id } => {
            of_process(process, container_id.as_deref().unwrap_or(nobody))
        }
        What::ContainerAppeared {
            container_id,
            identified: true,
        }
        | What::ContainerRetired { container_id } => container_id.clone(),
        What::ContainerAppeared { container_id, .. } => format!("{container_id}  its name is being asked for"),
        What::ContainerIdentified {
            container_id,
            was,
            runtime,
        } => {
            let was = if was == container_id {
                String::new()
            } else {
                format!("  was {was}")
            };
            let who = runtime.as_deref().map_or_else(
                || "no runtime has told its name".to_owned(),
                |runtime| format!("known to {runtime}"),
            );
            format!("{container_id}{was}  {who}")
        }
        What::Restarted => "the agent tells anew what there is".to_owned(),
        What::Lagged { lost } => format!("{lost} more events were missed"),
        What::Ended => "the agent ends".to_owned(),
    };
    format!(
        "{}  {:<20}  {}",
        time(event.time_unix),
        event.what.name(),
        printable(&text)
    )
}

pub(super) fn time(unix: f64) -> String {
    // The year 9999 is the last that has four digits.
    const LAST: f64 = 253_402_300_799.0;
    let since = Duration::try_from_secs_f64(unix.clamp(0.0, LAST)).unwrap_or_default();
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{AdminArgs, client::tests::Agent};

    const STREAM: &str = concat!(
        ": from here on\n\n",
        "event: container_appeared\ndata: {\"time_unix\":1.5,\"event\":\"container_appeared\",\"container_id\":\"/docker/01\",\"identified\":false}\n\n",
        "event: process_started\ndata: {\"time_unix\":2.0,\"event\":\"process_started\",\"pid\":7,\"name\":\"a\\u001bb\",\"start_unix\":1.0,\"start_boottime_ns\":3,\"container_id\":\"/docker/01\"}\n\n",
        ": still here\n\n",
        "event: container_identified\ndata: {\"time_unix\":2.0,\"event\":\"container_identified\",\"container_id\":\"/docker/web\",\"was\":\"/docker/01\",\"runtime\":\"docker\"}\n\n",
        "event: process_moved\ndata: {\"time_unix\":2.0,\"event\":\"process_moved\",\"pid\":7,\"name\":\"a\",\"start_unix\":1.0,\"start_boottime_ns\":3,\"container_id\":null}\n\n",
        "event: process_exited\ndata: {\"time_unix\":2.0,\"event\":\"process_exited\",\"pid\":7,\"name\":\"a\",\"start_unix\":1.0,\"start_boottime_ns\":3,\"container_id\":null}\n\n",
        "event: container_retired\ndata: {\"time_unix\":1e300,\"event\":\"container_retired\",\"container_id\":\"/docker/web\"}\n\n",
        "event: restarted\ndata: {\"time_unix\":-1,\"event\":\"restarted\"}\n\n",
    );
    const ENDED: &str = "event: ended\ndata: {\"time_unix\":3.0,\"event\":\"ended\"}\n\n";
    const LAGGED: &str = "event: lagged\ndata: {\"time_unix\":3.0,\"event\":\"lagged\",\"lost\":12}\n\n";

    fn ran(stream: &str, json: bool) -> (String, Result<(), CliError>) {
        let agent = Agent::answering("200 OK", stream);
        let args = EventsArgs {
            follow: true,
            json,
            admin: AdminArgs {
                admin_socket: Some(agent.socket()),
            },
        };
        let mut out = Vec::new();
        let result = run(&args, &mut out);
        assert_eq!(agent.asked(), "GET /api/v1/events HTTP/1.1");
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn prints_what_comes_until_the_agent_ends() {
        let (text, result) = ran(&format!("{STREAM}{ENDED}"), false);
        result.unwrap();
        insta::assert_snapshot!(text, @r"
        1970-01-01T00:00:01.500Z  container_appeared    /docker/01  its name is being asked for
        1970-01-01T00:00:02.000Z  process_started       /docker/01  7 a\u{1b}b
        1970-01-01T00:00:02.000Z  container_identified  /docker/web  was /docker/01  known to docker
        1970-01-01T00:00:02.000Z  process_moved         -  7 a
        1970-01-01T00:00:02.000Z  process_exited        -  7 a
        9999-12-31T23:59:59.000Z  container_retired     /docker/web
        1970-01-01T00:00:00.000Z  restarted             the agent tells anew what there is
        1970-01-01T00:00:03.000Z  ended                 the agent ends
        ");
    }

    #[test]
    fn json_is_what_the_agent_sends_one_object_a_line() {
        let (text, result) = ran(&format!("{STREAM}{ENDED}"), true);
        result.unwrap();
        let sent: Vec<_> = STREAM.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..sent.len()], sent);
        assert_eq!(lines.len(), sent.len() + 1);
    }

    #[test]
    fn who_was_too_slow_fails() {
        let (text, result) = ran(LAGGED, false);
        assert_eq!(
            text,
            "1970-01-01T00:00:03.000Z  lagged                12 more events were missed\n"
        );
        let message = result.unwrap_err().to_string();
        assert_eq!(message, "read too slowly: 12 more events were missed");
    }

    #[test]
    fn an_agent_that_is_cut_off_is_an_error() {
        let (text, result) = ran(STREAM, false);
        assert_eq!(text.lines().count(), 7);
        let message = result.unwrap_err().to_string();
        assert!(message.ends_with("broke off"), "{message}");
        let (_, result) = ran("data: {}\n\n", false);
        assert!(matches!(result, Err(CliError::Client(ClientError::Answer { .. }))));
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_ends_it() {
        let agent = Agent::answering("200 OK", STREAM);
        let args = EventsArgs {
            follow: true,
            json: false,
            admin: AdminArgs {
                admin_socket: Some(agent.socket()),
            },
        };
        run(&args, &mut Closed).unwrap();
    }
}
