//! Clients in other languages, with the libraries that people use there: fetched once, in the versions that stand beside them.
use crate::demand;
use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
};

fn succeeds(command: &mut Command) -> bool {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let done = output.status.success();
    if !done {
        let why = String::from_utf8_lossy(&output.stderr);
        writeln!(io::stderr(), "{command:?}: {why}").expect("stderr is open");
    }
    done
}

/// The program of a Go module that lies in `source`, built in `into`. None, said loudly, where its libraries cannot be had.
#[must_use]
#[track_caller]
pub fn go_module(source: &str, into: &str) -> Option<String> {
    let source = Path::new(source);
    let name = source.parent()?.file_name()?.to_str()?;
    let program = Path::new(into).join(format!("{name}-in-go"));
    let go = |words: &[&str]| {
        let mut go = Command::new("go");
        // Where the machine's own is older than a library wants, it may get itself another.
        go.args(words).current_dir(source).env("GOTOOLCHAIN", "auto");
        go
    };
    demand(&format!("{name}'s Go modules"), succeeds(&mut go(&["mod", "download"]))).then_some(())?;
    let program = program.display().to_string();
    assert!(succeeds(&mut go(&["build", "-buildvcs=false", "-o", &program])));
    Some(program)
}

/// `client.js` that lies in `source`, in a folder with the packages of its lock file. None, said loudly, where they cannot be had.
#[must_use]
#[track_caller]
pub fn node_module(source: &str, into: &str) -> Option<String> {
    const LOCK: &str = "package-lock.json";
    let source = Path::new(source);
    let name = source.parent()?.file_name()?.to_str()?;
    let folder = Path::new(into).join(format!("{name}-in-node"));
    fs::create_dir_all(&folder).expect("the folder of what is built is ours");
    let copy = |file: &str| fs::copy(source.join(file), folder.join(file)).expect("all of them lie beside each other");
    let [wanted, there] = [source, &folder].map(|folder| fs::read(folder.join(LOCK)).ok());
    let are_there = wanted == there && folder.join("node_modules").is_dir();
    if !are_there {
        for file in ["package.json", LOCK] {
            copy(file);
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts"]).current_dir(&folder);
        let installed = succeeds(&mut npm);
        if !installed {
            fs::remove_file(folder.join(LOCK)).expect("it was copied above");
        }
        demand(&format!("{name}'s npm packages"), installed).then_some(())?;
    }
    copy("client.js");
    Some(folder.join("client.js").display().to_string())
}
