//! What of SQL is told, and that nothing else is.
use crate::l7::postgres::sql::obfuscate;
use proptest::prelude::*;

fn told(sql: &str) -> String {
    obfuscate(sql.as_bytes(), false).text.into()
}

#[test]
fn literals_become_question_marks() {
    for (sql, expected) in [
        ("SELECT 1", "SELECT ?"),
        (
            "SELECT 'a', 'it''s', E'a\\'b', e'\\\\', U&'x\\0041', B'01', X'1f', N'a'",
            "SELECT ?, ?, ?, ?, ?, ?, ?, ?",
        ),
        (
            "SELECT 1.5, .5, 1e10, 1.5E-3, 0x1F, 1_000, -7, 1..2",
            "SELECT ?, ?, ?, ?, ?, ?, -?, ?",
        ),
        ("SELECT $$a$$, $tag$ $$ ' $ta$tag$, $1, $12", "SELECT ?, ?, $1, $12"),
        (
            "SELECT \"a 'b' \"\" 1\" FROM t1 WHERE a$1 = x2.y3",
            "SELECT \"a 'b' \"\" 1\" FROM t1 WHERE a$1 = x2.y3",
        ),
        ("  SELECT\t\n a -- 'x'\n ,/* ' /* 1 */ ' */ b  ", "SELECT a , b"),
        ("SELECT a::int[1] || b->>'c' @> d", "SELECT a::int[?] || b->>? @> d"),
        ("SELECT 'a'\n'b'", "SELECT ? ?"),
        ("ALTER USER bob PASSWORD 'x'", "ALTER USER bob PASSWORD ?"),
        ("SELECT 1;SELECT 'ü', ü", "SELECT ?;SELECT ?, ü"),
        ("SELECT a$$b$$c", "SELECT a$$b$$c"),
        ("SELECT 1$$b c$$", "SELECT ??"),
        ("", ""),
        ("-- x", ""),
    ] {
        assert_eq!(told(sql), expected, "{sql}");
    }
}

#[test]
fn what_has_no_end_is_a_literal_to_the_end() {
    for sql in [
        "SELECT 'a b",
        "SELECT E'a\\' b",
        "SELECT $x$ b $y$",
        "SELECT $x",
        "SELECT \"a b",
        // Settings and encodings decide whether that is the end.
        "SELECT 'a\\' b', 'c'",
        "SELECT E'é\\' b', 'c'",
        "SELECT E'é\\\\' b', 'c'",
    ] {
        assert_eq!(told(sql), "SELECT ?...", "{sql}");
    }
    assert_eq!(told("SELECT /* a /* b */ c"), "SELECT");
}

#[test]
fn the_verb_is_the_first_word() {
    for (sql, verb) in [
        ("select 1", "SELECT"),
        (" /* a */ (-- b\n With x", "WITH"),
        ("1 'a' ; vacuum", "VACUUM"),
        ("E'x'", ""),
        (";", ""),
    ] {
        assert_eq!(&*obfuscate(sql.as_bytes(), false).verb, verb, "{sql}");
    }
    assert_eq!(obfuscate(&[b'a'; 99], false).verb.len(), 32);
}

#[test]
fn it_takes_time_in_proportion() {
    for part in [
        "'", "$", "$a", "$a$ ", "/*", "E'\\", "\"", "1e+", "\u{e9}\\", "--", "a ",
    ] {
        let sql = part.repeat(1 << 20);
        let text = obfuscate(sql.as_bytes(), false).text;
        assert!(text.len() <= 1024, "{part}");
    }
}

/// A secret in a literal of some kind.
fn literal() -> impl Strategy<Value = String> {
    let secret = "[Z7 ;,.()=\\-/*\n]{0,12}";
    let text = "(ZZ|7|''|\\\\|\"|--|/\\*|\\*/|;|\\$|é| ){0,8}";
    prop_oneof![
        text.prop_map(|text| format!("'{}'", text.replace('\\', ""))),
        text.prop_map(|text| format!(
            "E'{}'",
            text.replace('\\', "\\\\").replace("''", "\\'").replace('é', "e")
        )),
        text.prop_map(|text| format!("U&'{}'", text.replace('\\', ""))),
        text.prop_map(|text| format!("$$ {} $$", text.replace('$', ""))),
        text.prop_map(|text| format!("$b_1$ {} $b_1$", text.replace('$', "$b$ $$"))),
        secret.prop_map(|text| format!("x'{text}'")),
        "77[0-9]{0,9}(\\.7[0-9]{0,3})?(e[+-]?77)?",
        Just(".77e-7".to_owned()),
    ]
}

/// Nothing in it is a secret.
fn other() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "select",
        "x1",
        "\"q'r\"\"s\"",
        "$1",
        "::",
        "->>",
        " - ",
        "(",
        ",",
        ")",
        "=",
        "/* 'c */",
        "-- d'\n",
        "a$b",
        "é",
        ";",
        "é.e",
        "U&\"x\"",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn no_literal_survives(
        parts in prop::collection::vec(prop_oneof![literal(), other()], 0..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let sql = parts.join(" ");
        let whole = told(&sql);
        prop_assert!(!whole.contains('Z') && !whole.contains('7'), "{sql}\n{whole}");
        let cut = cut.index(sql.len() + 1);
        let begin = obfuscate(&sql.as_bytes()[..cut], true);
        prop_assert!(!begin.text.contains('Z') && !begin.text.contains('7'), "{sql}\n{}", begin.text);
        prop_assert!(begin.text.len() <= 1024 && begin.text.ends_with("..."));
    }

    #[test]
    fn what_is_told_stays_as_it_is(parts in prop::collection::vec(prop_oneof![literal(), other()], 0..30)) {
        let once = told(&parts.join(" "));
        prop_assert_eq!(told(&once), once);
    }

    #[test]
    fn it_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in any::<bool>()) {
        let asked = obfuscate(&bytes, cut);
        prop_assert!(asked.text.len() <= 1024);
        prop_assert!(!asked.text.bytes().any(|byte| byte.is_ascii_control()));
    }

    #[test]
    fn it_takes_any_quotes(text in "[eEuU&'\"$ab\\\\/*1 \\n-]{0,60}", cut in any::<bool>()) {
        let asked = obfuscate(text.as_bytes(), cut);
        prop_assert!(asked.text.contains('"') || !asked.text.contains('\''), "{text}");
    }
}
