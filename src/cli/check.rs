//! What an agent would find here, without being one: it takes no lock and no port, and what it attaches to the kernel
//! for a moment is apart from what a running agent has there.
use super::{
    CheckArgs, CliError,
    layout::{Align::*, printable, table},
    print,
};
use crate::{
    base::{
        clock::SystemClock,
        features::{Features, Row},
    },
    collect::{
        node::{Probe, probe},
        worker::{Work, Worker},
    },
    config::{Config, Overrides, load},
    http::api::Readiness,
    tracer::{kernel::Kernel, object::object},
};
use std::{io::Write, sync::Arc};

/// An error, after the table, if nothing would be collected.
pub fn run(args: &CheckArgs, out: &mut impl Write) -> Result<(), CliError> {
    let config = load(args.file.path(), &Overrides::default())?;
    let readiness = look(&config);
    let text = if args.json {
        let json = serde_json::to_string_pretty(&readiness).expect("rows are plain data");
        json + "\n"
    } else {
        render(&readiness.features)
    };
    print(out, text.as_bytes())?;
    if readiness.ready {
        Ok(())
    } else {
        Err(CliError::CollectsNothing)
    }
}

fn look(config: &Config) -> Readiness {
    let features = Arc::new(Features::default());
    let found = probe(config, &features);
    let mut kernel = Kernel::new(found.setup(config), object());
    kernel.ensure(&features, &|| {});
    let Probe { node, tree, .. } = found;
    let worker = Worker::new(
        config.host.proc.clone(),
        &config.identity.cgroup_root,
        &node,
        tree,
        Arc::clone(&features),
        Arc::new(SystemClock),
    );
    // For what it says of /proc.
    worker.work(Work {
        asks: Vec::new(),
        inventory: true,
    });
    Readiness {
        ready: kernel.collects(),
        features: features.rows(),
    }
}

fn render(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            [
                row.feature.to_owned(),
                row.state.as_str().to_owned(),
                row.reason.to_owned(),
                printable(&row.hint),
            ]
        })
        .collect();
    let columns = [("FEATURE", Left), ("STATE", Left), ("REASON", Left), ("HINT", Left)];
    table(columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::features::{State, feature},
        cli::FileArgs,
    };
    use std::fs;

    #[test]
    fn rows_as_a_table() {
        let features = Features::default();
        features.ok(feature::TOTALS);
        features.degraded(feature::BTF, "no_btf", "cannot read /sys/kernel/btf/vmlinux\n");
        features.set(
            feature::TCP_STATE,
            State::Off,
            "configured",
            "kernel.features_off names it",
        );
        insta::assert_snapshot!(render(&features.rows()), @r"
        FEATURE    STATE     REASON      HINT
        btf        degraded  no_btf      cannot read /sys/kernel/btf/vmlinux\n
        tcp_state  off       configured  kernel.features_off names it
        totals     ok
        ");
    }

    /// Whoever runs this, and whatever the kernel allows: what is switched off is not attached.
    #[test]
    fn nothing_collected_is_an_error_after_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.yaml");
        let off: Vec<String> = feature::ALL.map(str::to_owned).to_vec();
        fs::write(&path, format!("kernel: {{features_off: {off:?}}}")).unwrap();
        for json in [false, true] {
            let file = FileArgs {
                config: Some(path.clone()),
            };
            let mut out = Vec::new();
            let err = run(&CheckArgs { file, json }, &mut out).unwrap_err();
            assert!(matches!(err, CliError::CollectsNothing), "{err}");
            let out = String::from_utf8(out).unwrap();
            if json {
                let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
                assert_eq!(answer["ready"], false);
                let features = answer["features"].as_array().unwrap();
                let named = |name| features.iter().any(|row| row["feature"] == name);
                assert!(named(feature::PROC) && named(feature::HOST_NETNS) && named(feature::PROCESS_START));
            } else {
                assert!(out.starts_with("FEATURE ") && out.contains("\nhost_files "), "{out}");
            }
        }
    }

    #[test]
    fn a_wrong_configuration_comes_first() {
        let file = FileArgs {
            config: Some("/nowhere/t.yaml".into()),
        };
        let err = run(&CheckArgs { file, json: false }, &mut Vec::new()).unwrap_err();
        assert!(matches!(err, CliError::Config(_)), "{err}");
    }
}
