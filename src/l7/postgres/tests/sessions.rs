//! Sessions of all kinds, made up, with what they have to come to.
use super::{encoder::*, *};
use proptest::prelude::*;

/// Something that a client does.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) turns: Vec<Turn>,
    pub(super) statuses: Vec<Status>,
}

impl Act {
    fn new(turns: Vec<Turn>, statuses: Vec<Status>) -> Self {
        Self { turns, statuses }
    }

    fn of_one(asked: Vec<u8>, answered: Vec<u8>, statuses: Vec<Status>) -> Self {
        Self::new(vec![(Client, asked), (Server, answered)], statuses)
    }

    /// It may be asked before what came before it is answered.
    fn is_one(&self) -> bool {
        self.turns.len() == 2
    }
}

fn status(fails: bool) -> Status {
    if fails { Failed } else { Ok }
}

fn rows() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((0..200usize, prop::bool::weighted(0.1)), 0..6).prop_map(|rows| {
        let row = |(len, notes): (usize, bool)| if notes { [row(len), notice()].concat() } else { row(len) };
        [row_description(), rows.into_iter().flat_map(row).collect()].concat()
    })
}

fn simple() -> impl Strategy<Value = Act> {
    let statement = prop_oneof![
        rows().prop_map(|rows| [rows, complete()].concat()),
        Just(complete()),
        Just(bare('I')),
        Just([notice(), complete(), message(b'S', b"a\0b\0")].concat()),
    ];
    let answers = (prop::collection::vec(statement, 1..4), prop::option::of(rows()));
    ("[xy =]{0,80}", answers, any::<bool>()).prop_map(|(sql, (answers, rows), fails)| {
        let failure = if fails {
            [rows.unwrap_or_default(), error()].concat()
        } else {
            Vec::new()
        };
        Act::of_one(
            query(&sql),
            [answers.concat(), failure, ready()].concat(),
            vec![status(fails)],
        )
    })
}

fn calls() -> impl Strategy<Value = Act> {
    any::<bool>().prop_map(|fails| {
        let answer = if fails {
            error()
        } else {
            message(b'V', &[0, 0, 0, 1, 7])
        };
        Act::of_one(call(), [answer, ready()].concat(), vec![status(fails)])
    })
}

fn prepares() -> impl Strategy<Value = Act> {
    (any::<bool>(), any::<bool>()).prop_map(|(describes, fails)| {
        let (asks, says) = if describes {
            (describe('S', "s"), [message(b't', &[0, 0]), row_description()].concat())
        } else {
            (Vec::new(), Vec::new())
        };
        let says = if fails { error() } else { [bare('1'), says].concat() };
        let asked = [parse("s", "x = y"), asks, sync()].concat();
        Act::of_one(asked, [says, ready()].concat(), vec![status(fails)])
    })
}

/// Some executes, one of which may fail, or their commit.
fn batches() -> impl Strategy<Value = Act> {
    let one = (any::<bool>(), any::<bool>(), prop::option::of(rows()), any::<bool>());
    (prop::collection::vec(one, 1..6), 0..10usize).prop_map(|(executes, fails)| {
        let (mut asked, mut answered, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (parses, describes, rows, suspends)) in executes.iter().enumerate() {
            let mut say = |asks: Vec<u8>, says: &[u8]| {
                asked.extend(asks);
                if at <= fails {
                    answered.extend(says);
                }
            };
            if *parses {
                say(parse("", "x"), &bare('1'));
            }
            say(bind("", ""), &bare('2'));
            if *describes {
                say(describe('P', ""), &bare('n'));
            }
            let end = if *suspends { bare('s') } else { complete() };
            let end = if at == fails { error() } else { end };
            say(
                execute(""),
                &[rows.as_ref().map(|rows| rows[27..].to_vec()).unwrap_or_default(), end].concat(),
            );
            statuses.push(status(at >= fails));
        }
        if fails == executes.len() {
            answered.extend(error());
            statuses.pop();
            statuses.push(Failed);
        }
        Act::of_one([asked, sync()].concat(), [answered, ready()].concat(), statuses)
    })
}

/// In several turns.
fn flushes() -> impl Strategy<Value = Act> {
    (any::<bool>(), any::<bool>()).prop_map(|(executes, fails)| {
        let asked = [parse("", "x"), describe('S', ""), flush()].concat();
        let answered = if fails {
            error()
        } else {
            [bare('1'), bare('n')].concat()
        };
        let (asks, says) = match (executes, fails) {
            (false, _) => (Vec::new(), Vec::new()),
            (true, true) => ([bind("", ""), execute("")].concat(), Vec::new()),
            (true, false) => (
                [bind("", ""), execute("")].concat(),
                [bare('2'), row(7), complete()].concat(),
            ),
        };
        let turns = vec![
            (Client, asked),
            (Server, answered),
            (Client, [asks, sync()].concat()),
            (Server, [says, ready()].concat()),
        ];
        Act::new(turns, vec![status(fails)])
    })
}

fn copies() -> impl Strategy<Value = Act> {
    let data =
        || prop::collection::vec(0..300usize, 0..5).prop_map(|data| data.into_iter().flat_map(copy_data).collect());
    let ends = |fails: bool| if fails { error() } else { complete() };
    let into = (data(), any::<bool>(), any::<bool>()).prop_map(move |(data, fails, extended): (Vec<u8>, _, _)| {
        let asks = [bind("", "s"), execute(""), sync()].concat();
        let (asked, begins, syncs) = if extended {
            (asks, [bare('2'), copy_begins('G')].concat(), sync())
        } else {
            (query("COPY x FROM STDIN"), copy_begins('G'), Vec::new())
        };
        let turns = vec![
            (Client, asked),
            (Server, begins),
            (
                Client,
                [data, if fails { copy_fail() } else { bare('c') }, syncs].concat(),
            ),
            (Server, [ends(fails), ready()].concat()),
        ];
        Act::new(turns, vec![status(fails)])
    });
    let out = (data(), any::<bool>()).prop_map(move |(data, fails): (Vec<u8>, _)| {
        let end = if fails { Vec::new() } else { bare('c') };
        let answered = [copy_begins('H'), data, end, ends(fails), ready()].concat();
        Act::of_one(query("COPY x TO STDOUT"), answered, vec![status(fails)])
    });
    prop_oneof![into, out]
}

/// They count nothing.
fn others() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::of_one(sync(), ready(), vec![])),
        Just(Act::of_one(
            [close('S', "s"), sync()].concat(),
            [bare('3'), ready()].concat(),
            vec![]
        )),
        Just(Act::new(vec![(Server, [notice(), notification()].concat())], vec![])),
        Just(Act::new(vec![(Client, flush())], vec![])),
    ]
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![4 => simple(), 1 => calls(), 2 => prepares(), 4 => batches(), 1 => flushes(), 2 => copies(), 1 => others()]
}

/// What is said, in turns, and what it comes to. `pipelines`: for each act, whether it is asked together with the one before.
pub(super) fn session(acts: &[(Act, bool)], logs_in: bool) -> (Vec<Turn>, Vec<Status>) {
    let mut turns = Vec::new();
    if logs_in {
        turns.extend([
            (Client, ssl_request()),
            (Server, b"N".to_vec()),
            (Client, startup()),
            (Server, welcome()),
        ]);
    }
    let mut joins = false;
    for (act, pipelines) in acts {
        if *pipelines && joins && act.is_one() {
            let from = turns.len() - 2;
            for ((_, said), (_, more)) in turns[from..].iter_mut().zip(&act.turns) {
                said.extend(more);
            }
        } else {
            turns.extend(act.turns.iter().cloned());
        }
        joins = act.is_one();
    }
    (turns, acts.iter().flat_map(|(act, _)| act.statuses.clone()).collect())
}

/// Each turn in segments, and those in pieces: how long they are, again and again, and whether they start a segment.
pub(super) fn cuts(shortest: usize) -> impl Strategy<Value = Vec<(usize, bool)>> {
    let len = prop_oneof![shortest..shortest + 8, shortest..200usize, Just(usize::MAX)];
    prop::collection::vec((len, prop::bool::weighted(0.8)), 1..20)
}

pub(super) fn pieces<'a>(turns: &'a [Turn], cuts: &'a [(usize, bool)]) -> impl Iterator<Item = (Side, &'a [u8], bool)> {
    let mut cuts = cuts.iter().cycle();
    turns.iter().flat_map(move |(side, said)| {
        let mut rest = &said[..];
        let mut first = true;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (len, starts) = *cuts.next().unwrap();
            let (piece, after) = rest.split_at(len.min(rest.len()));
            pieces.push((*side, piece, std::mem::take(&mut first) || starts));
            rest = after;
        }
        pieces
    })
}
