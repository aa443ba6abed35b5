//! `tarsier reload`: has a running agent read its configuration again.
use super::{CliError, ReloadArgs, client::ClientError, layout::printable, print, print_json};
use crate::http::reload::Reloaded;
use std::io::Write;

pub fn run(args: &ReloadArgs, out: &mut impl Write) -> Result<(), CliError> {
    let answer = args.admin.client()?.post("/api/v1/reload")?;
    if args.json {
        return print_json(out, &answer);
    }
    let reloaded = serde_json::from_slice(&answer).map_err(|source| ClientError::Answer { source })?;
    print(out, render(&reloaded).as_bytes())
}

fn render(reloaded: &Reloaded) -> String {
    let keys = |keys: &[String]| printable(&keys.join(", "));
    let mut text = String::new();
    if !reloaded.changed.is_empty() {
        text += &format!("changed        {}\n", keys(&reloaded.changed));
    }
    if !reloaded.needs_restart.is_empty() {
        text += &format!("needs restart  {}\n", keys(&reloaded.needs_restart));
    }
    if text.is_empty() {
        text += "nothing has changed\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{AdminArgs, client::tests::Agent};

    #[test]
    fn as_json_it_is_what_the_agent_says() {
        let body = r#"{"changed":["a\u001b"],"needs_restart":[]}"#;
        let agent = Agent::answering("200 OK", body);
        let args = |json| ReloadArgs {
            json,
            admin: AdminArgs {
                admin_socket: Some(agent.socket()),
            },
        };
        let mut out = Vec::new();
        run(&args(true), &mut out).unwrap();
        assert_eq!(out, format!("{body}\n").into_bytes());
        assert_eq!(agent.asked(), "POST /api/v1/reload HTTP/1.1");
        let reloaded = serde_json::from_str(body).unwrap();
        assert_eq!(render(&reloaded), "changed        a\\u{1b}\n");
    }
}
