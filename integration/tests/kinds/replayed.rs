//! The same expectations of what was recorded.
use crate::{
    compare::Expected,
    distilled::{Run, recordings},
    scene::Row,
    table::KINDS,
};
use std::fs;
use tarsier::cli::replay::replay;
use tarsier_integration::Metrics;

/// With the table as it is now, and where and how often it connected then.
fn rows(run: &Run) -> Vec<Row> {
    let names: Vec<_> = run.rows.iter().map(|row| row.name.as_str()).collect();
    let kinds: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(
        names, kinds,
        "the table has changed: record it anew, as CONTRIBUTING.md says"
    );
    let row = |(kind, of): (&'static _, &crate::distilled::Where)| Row {
        kind,
        address: of.address,
        next: of.next,
    };
    KINDS.iter().zip(&run.rows).map(row).collect()
}

#[test]
fn each_kind_stands_under_its_own_id_in_a_replay() {
    for name in ["younger", "older"] {
        let path = recordings().join(name);
        let run = fs::read_to_string(path.with_extension("json")).unwrap();
        let run: Run = serde_json::from_str(&run).unwrap();
        let recording = fs::read(path.with_extension("rec")).unwrap();
        let text = replay(&recording[..]).unwrap_or_else(|error| {
            panic!("{name}: {error}; CONTRIBUTING.md says how it is recorded anew");
        });
        let rows = rows(&run);
        let connects: Vec<_> = run.rows.iter().map(|row| row.connects).collect();
        assert!(connects.iter().all(|connects| *connects > 0), "{connects:?}");
        let expected = Expected {
            unwanted: &run.unwanted,
            rows: &rows,
            connects,
            renamed: true,
        };
        let wrong = expected.wrong_in(&Metrics::parse(&String::from_utf8(text).unwrap()));
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
}

/// A table that claims otherwise is noticed.
#[test]
fn a_replay_is_compared() {
    let path = recordings().join("older");
    let run: Run = serde_json::from_str(&fs::read_to_string(path.with_extension("json")).unwrap()).unwrap();
    let text = replay(&fs::read(path.with_extension("rec")).unwrap()[..]).unwrap();
    let metrics = Metrics::parse(&String::from_utf8(text).unwrap());
    let rows = rows(&run);
    let expected = Expected {
        unwanted: &["kinds-docker".to_owned()],
        rows: &rows,
        connects: run.rows.iter().map(|row| row.connects + 1).collect(),
        renamed: false,
    };
    let wrong = expected.wrong_in(&metrics);
    let shown = rows.iter().filter(|row| !row.kind.id.is_empty()).count();
    let connects = wrong.iter().filter(|line| line.contains(": connects: ")).count();
    assert_eq!(connects, shown, "{wrong:#?}");
    for line in ["there is /docker/kinds-docker", "renamed: listens: "] {
        assert!(wrong.iter().any(|found| found.contains(line)), "{line}: {wrong:#?}");
    }
}
