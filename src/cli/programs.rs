//! What the eBPF programs cost: the verifier when they were loaded, and the node whenever they run.
use super::{
    CliError, ProgramsArgs,
    client::ClientError,
    layout::{Align::*, printable, table},
    print,
};
use serde::Deserialize;
use std::io::Write;

/// The part of `GET /api/v1/actors` that is shown; the agent's own types are for writing only.
#[derive(Debug, Deserialize)]
struct Answer {
    kernel: Report,
}

#[derive(Debug, Deserialize)]
struct Report {
    programs: Vec<Program>,
}

#[derive(Debug, Deserialize)]
struct Program {
    program: String,
    runs: u64,
    run_ns: u64,
    recursion_misses: u64,
    verified_instructions: u64,
}

pub fn run(args: &ProgramsArgs, out: &mut impl Write) -> Result<(), CliError> {
    let body = args.admin.client()?.get("/api/v1/actors")?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|source| ClientError::Answer { source })?;
    print(out, render(&answer.kernel.programs).as_bytes())
}

fn render(programs: &[Program]) -> String {
    let mut programs: Vec<_> = programs.iter().collect();
    programs.sort_by(|a, b| a.program.cmp(&b.program));
    let timed = programs.iter().any(|program| program.runs > 0);
    let rows: Vec<_> = programs
        .into_iter()
        .map(|program| {
            let each = program.run_ns.checked_div(program.runs);
            [
                printable(&program.program),
                program.verified_instructions.to_string(),
                program.runs.to_string(),
                each.map_or_else(String::new, |ns| format!("{ns} ns")),
                program.recursion_misses.to_string(),
            ]
        })
        .collect();
    let columns = [
        ("PROGRAM", Left),
        ("VERIFIED", Right),
        ("RUNS", Right),
        ("EACH", Right),
        ("SKIPPED", Right),
    ];
    let listed = table(columns, &rows);
    if timed {
        listed
    } else {
        listed + "runs are counted while `sysctl kernel.bpf_stats_enabled` is 1\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{AdminArgs, client::tests::Agent},
        tracer::{kernel::ProgramStats, stats::KernelReport},
    };

    fn asked_of(answer: &str) -> Result<String, CliError> {
        let agent = Agent::answering("200 OK", answer);
        let admin = AdminArgs {
            admin_socket: Some(agent.socket()),
        };
        let mut out = Vec::new();
        run(&ProgramsArgs { admin }, &mut out)?;
        assert_eq!(agent.asked(), "GET /api/v1/actors HTTP/1.1");
        Ok(String::from_utf8(out).unwrap())
    }

    fn answer(programs: Vec<ProgramStats>) -> String {
        let kernel = KernelReport {
            programs,
            ..KernelReport::default()
        };
        serde_json::json!({ "actors": [], "registry": null, "kernel": kernel }).to_string()
    }

    fn stats(program: &'static str, runs: u64, run_ns: u64) -> ProgramStats {
        ProgramStats {
            program,
            runs,
            run_ns,
            recursion_misses: 7,
            verified_instructions: 1234,
        }
    }

    #[test]
    fn one_line_for_each() {
        let answer = answer(vec![stats("totals", 0, 0), stats("tcp_state", 4, 500)]);
        insta::assert_snapshot!(asked_of(&answer).unwrap(), @r"
        PROGRAM    VERIFIED  RUNS    EACH  SKIPPED
        tcp_state      1234     4  125 ns        7
        totals         1234     0                7
        ");
    }

    #[test]
    fn says_why_nothing_is_counted() {
        let text = asked_of(&answer(vec![stats("totals", 0, 0)])).unwrap();
        assert!(
            text.ends_with("\nruns are counted while `sysctl kernel.bpf_stats_enabled` is 1\n"),
            "{text}"
        );
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        let err = asked_of(r#"{"kernel":{}}"#).unwrap_err();
        assert!(matches!(err, CliError::Client(ClientError::Answer { .. })), "{err:?}");
    }
}
