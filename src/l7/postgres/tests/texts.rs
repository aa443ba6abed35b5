//! What was asked, where somebody watches.
use super::{encoder::*, *};

fn answered(talk: &mut Talk) {
    talk.server(&[complete(), ready()].concat());
}

fn executes(name: &str) -> Vec<u8> {
    [bind("", name), execute(""), sync()].concat()
}

#[test]
fn nobody_is_told_who_does_not_watch() {
    let mut talk = Talk::default();
    talk.client(&query("SELECT 'x'"));
    answered(&mut talk);
    assert_eq!((talk.statuses(), talk.texts()), (vec![Ok], vec![]));
    assert_eq!(talk.dialogue.buffered(), 0);
}

#[test]
fn literals_are_not_told() {
    let mut talk = Talk::watched();
    talk.client(&query(
        "  /* a */ select * from users where id = 42 and name in ('bob', 'eve')",
    ));
    answered(&mut talk);
    talk.client(&query(""));
    answered(&mut talk);
    talk.client(&call());
    answered(&mut talk);
    let expected = [
        ("SELECT", "select * from users where id = ? and name in (?, ?)"),
        ("", ""),
        ("CALL", "CALL ?"),
    ];
    assert_eq!(talk.texts(), expected);
}

#[test]
fn statements_are_known_by_their_names() {
    let mut talk = Talk::watched();
    talk.client(&executes("s1"));
    answered(&mut talk);
    talk.client(&[parse("s1", "SELECT $1, 7"), describe('S', "s1"), sync()].concat())
        .server(&ready());
    talk.client(&executes("s1"));
    answered(&mut talk);
    talk.client(
        &[
            parse("", "INSERT INTO t VALUES ('x')"),
            bind("c", ""),
            bind("d", "s1"),
            execute("c"),
            sync(),
        ]
        .concat(),
    );
    answered(&mut talk);
    talk.client(&[execute("d"), close('S', "s1"), sync()].concat());
    answered(&mut talk);
    talk.client(&executes("s1"));
    answered(&mut talk);
    talk.client(&executes("'secret'"));
    answered(&mut talk);
    talk.client(&[describe('P', ""), sync()].concat()).server(&ready());
    let expected = [
        ("EXECUTE", "EXECUTE s1 /* unknown */"),
        ("PREPARE", "PREPARE s1 AS SELECT $1, ?"),
        ("SELECT", "SELECT $1, ?"),
        ("INSERT", "INSERT INTO t VALUES (?)"),
        ("SELECT", "SELECT $1, ?"),
        ("EXECUTE", "EXECUTE s1 /* unknown */"),
        ("EXECUTE", "EXECUTE ? /* unknown */"),
        ("DESCRIBE", "DESCRIBE ?"),
    ];
    assert_eq!(talk.texts(), expected);
}

#[test]
fn the_oldest_statement_is_forgotten() {
    let mut talk = Talk::watched();
    for at in 0..257 {
        talk.client(&[parse(&format!("s{at}"), "SELECT x"), sync()].concat())
            .server(&ready());
    }
    let before = talk.dialogue.buffered();
    talk.client(&executes("s0"));
    answered(&mut talk);
    talk.client(&executes("s1"));
    answered(&mut talk);
    assert_eq!(
        talk.texts()[257..],
        [("EXECUTE", "EXECUTE s0 /* unknown */"), ("SELECT", "SELECT x")]
    );
    assert!(before > 256 * 8);
    // Nobody watches any more.
    talk.heard.watches = false;
    talk.client(&executes("s1"));
    answered(&mut talk);
    assert_eq!(talk.dialogue.buffered(), 0);
}

#[test]
fn a_text_is_cut_without_a_part_of_a_literal() {
    for size in [1, 1000, usize::MAX] {
        for before in 2000..2060 {
            let mut talk = Talk::watched();
            let sql = format!("SELECT {} x, '{}'", "a".repeat(7), "s".repeat(before * 2));
            for piece in query(&sql).chunks(size) {
                talk.client(piece);
            }
            answered(&mut talk);
            assert_eq!(talk.texts(), [("SELECT", "SELECT aaaaaaa x, ?...")]);
        }
    }
    let mut talk = Talk::watched();
    talk.client(&query(&"é".repeat(700)));
    answered(&mut talk);
    let (_, text) = talk.texts()[0];
    assert!(text.len() <= 1024 && text.ends_with("é..."), "{text}");
}

#[test]
fn a_text_with_a_hole_ends_there() {
    let mut talk = Talk::watched();
    let asked = query("SELECT a, 'secret' FROM t");
    talk.client(&asked[..13]).miss(Client, 4).client(&asked[17..]);
    answered(&mut talk);
    assert_eq!(
        (talk.texts(), talk.unparsed()),
        (vec![("SELECT", "SELECT a...")], vec![])
    );
}

#[test]
fn a_statement_is_told_of_however_often_it_waits() {
    let mut talk = Talk::watched();
    talk.client(&[parse("s", "SELECT $1"), sync()].concat())
        .server(&ready());
    for _ in 0..2000 {
        talk.client(&[bind("", "s"), execute("")].concat());
    }
    talk.client(&sync())
        .server(&[[bare('2'), complete()].concat().repeat(2000), ready()].concat());
    assert_eq!(talk.texts()[1..], [("SELECT", "SELECT $1"); 2000]);
}

#[test]
fn who_is_watched_counts_as_much() {
    let mut talk = Talk::watched();
    for at in 0..3000 {
        talk.client(&query(&format!("SELECT a{at}")));
        if at % 3 == 0 {
            talk.client(&query("SELECT b"));
        }
    }
    talk.server(&[complete(), ready()].concat().repeat(4000));
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok; 4000], vec![]));
}
