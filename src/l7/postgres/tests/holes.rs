//! What was missed, and what comes after it.
use super::{encoder::*, sessions::*, *};
use UnparsedReason::Gap;
use proptest::prelude::*;

#[test]
fn a_hole_within_a_message_is_nothing_but_that() {
    let mut talk = Talk::logged_in();
    let (asked, answered) = (query(&"x".repeat(5000)), row(5000));
    talk.client(&asked[..5]).miss(Client, asked.len() as u64 - 5);
    assert!(talk.dialogue.expects_reply());
    talk.server(&answered[..100])
        .miss(Server, 4000)
        .server(&answered[4100..])
        .server(&[complete(), ready()].concat());
    talk.client(&query("x")).server(&[error(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok, Failed], vec![]));
}

#[test]
fn of_a_reply_without_its_end_nobody_knows_what_it_was() {
    let mut talk = Talk::logged_in();
    talk.client(&query("x"))
        .server(&[row_description(), row(3)].concat())
        .miss(Server, 100);
    talk.client(&query("y")).server(&[error(), ready()].concat());
    talk.client(&query("z")).server(&[complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Failed, Ok], vec![(Gap, 1)]));
}

#[test]
fn a_result_after_a_hole_is_one() {
    let mut talk = Talk::logged_in();
    talk.client(&query("x"))
        .server(&[row_description(), row(3)].concat())
        .miss(Server, 100);
    // Within a row.
    talk.server(&[&row(30)[9..], &row(30), &complete(), &ready()].concat());
    assert_eq!(talk.statuses(), []);
    talk.server(&[row(30), complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![]));
    talk.client(&query("x")).miss(Server, 100).server(&ready());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![(Gap, 1)]));
}

#[test]
fn what_has_failed_before_a_hole_has_failed() {
    let mut talk = Talk::logged_in();
    talk.client(&query("x"))
        .server(&[row_description(), error()].concat())
        .miss(Server, 6);
    talk.client(&[execute(""), execute(""), sync()].concat())
        .server(&error())
        .miss(Server, 6);
    talk.client(&query("x")).server(&[complete(), ready()].concat());
    assert_eq!(
        (talk.statuses(), talk.unparsed()),
        (vec![Failed, Failed, Failed, Ok], vec![])
    );
    // Of several at once.
    talk.client(&[query("x"), query("y"), query("z")].concat())
        .server(&error())
        .miss(Server, 6);
    talk.server(&[complete(), ready()].concat().repeat(2));
    assert_eq!(
        (talk.statuses(), talk.unparsed()),
        (vec![Failed, Failed, Failed, Ok, Failed, Ok, Ok], vec![])
    );
}

#[test]
fn a_pipeline_is_right_again_once_the_client_has_waited() {
    let mut talk = Talk::logged_in();
    talk.client(&query("x").repeat(5))
        .server(&[complete(), ready()].concat())
        .miss(Server, 100);
    talk.server(&[error(), ready()].concat())
        .server(&[error(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok, Failed, Failed], vec![]));
    talk.client(&query("x")).server(&[complete(), ready()].concat());
    assert_eq!(
        (talk.statuses(), talk.unparsed()),
        (vec![Ok, Failed, Failed, Ok], vec![(Gap, 2)])
    );
    // As before, more than one may wait.
    talk.client(&query("x"))
        .server(&notice())
        .client(&query("x"))
        .server(&[complete(), ready()].concat());
    talk.client(&query("x")).server(&[error(), ready()].concat().repeat(2));
    assert_eq!(talk.statuses()[4..], [Ok, Failed, Failed]);
}

#[test]
fn requests_that_were_missed_are_one_hole() {
    let mut talk = Talk::logged_in();
    talk.client(&[parse("", "x"), bind("", "")].concat()).miss(Client, 50);
    talk.server(&[bare('1'), bare('2'), complete(), ready()].concat());
    talk.client(&query("x")).server(&[error(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Failed], vec![(Gap, 1)]));
    // As long as nobody knows where, it is the same hole.
    talk.client(&query("x")[..3])
        .miss(Client, 5)
        .client(b"xx")
        .miss(Client, 5);
    assert_eq!(talk.unparsed(), vec![(Gap, 2)]);
}

#[test]
fn what_seems_to_be_messages_may_be_none() {
    let mut talk = Talk::logged_in();
    talk.miss(Server, 9).server(&bare('1')).server(b"no message");
    talk.client(&query("x")).server(&[error(), ready()].concat());
    talk.miss(Client, 9).client(&sync()).client(b"no message");
    talk.client(&query("x")).server(&[complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Failed, Ok], vec![(Gap, 2)]));
    assert!(!talk.dialogue.is_over());
}

#[test]
fn a_message_is_found_where_it_comes_in_small_segments() {
    let mut talk = Talk::logged_in();
    talk.miss(Client, 9).miss(Server, 9);
    for byte in [b"xyz\0\0".as_slice(), &query("a")].concat() {
        talk.client(&[byte]);
    }
    for byte in [b"xyz\0\0".as_slice(), &error(), &ready()].concat() {
        talk.server(&[byte]);
    }
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Failed], vec![(Gap, 1)]));
}

#[test]
fn an_answer_about_encryption_may_be_missed() {
    let mut talk = Talk::default();
    talk.client(&ssl_request())
        .miss(Server, 1)
        .client(&startup())
        .server(&welcome());
    talk.client(&query("x")).server(&[error(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Failed], vec![]));
}

/// Where each side waits for the other, all is right.
fn waits_again(talk: &mut Talk) -> Vec<Status> {
    talk.client(&query("x")).server(&[error(), ready()].concat());
    talk.client(&[bind("", "s"), execute(""), sync()].concat())
        .server(&[bare('2'), complete(), ready()].concat());
    talk.client(&[parse("", "x"), sync()].concat())
        .server(&[error(), ready()].concat());
    vec![Failed, Ok, Failed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn after_holes_it_is_right_again(
        acts in prop::collection::vec((act(), any::<bool>()), 1..8),
        logs_in in any::<bool>(),
        // Of less it cannot be told whether a message begins there.
        cuts in cuts(8),
        holes in prop::collection::vec(prop::bool::weighted(0.2), 1..20),
        deaf in prop::sample::select(vec![Some(Client), Some(Server), None]),
    ) {
        let (turns, expected) = session(&acts, logs_in);
        let mut talk = Talk::default();
        for ((side, piece, starts), hole) in pieces(&turns, &cuts).zip(holes.iter().cycle()) {
            if *hole && deaf.is_none_or(|deaf| deaf == side) {
                talk.miss(side, piece.len() as u64);
            } else {
                talk.hear(side, piece, starts);
            }
        }
        prop_assert!(talk.statuses().len() <= expected.len(), "{:?} of {:?}", talk.statuses(), expected);
        let now = waits_again(&mut talk);
        talk.end();
        let told = talk.statuses();
        prop_assert!(told.ends_with(&now), "{told:?}");
        prop_assert!(told.len() <= expected.len() + now.len());
        if deaf == Some(Server) {
            // Of what was asked nothing was missed.
            let unparsed: u64 = talk.heard.unparsed.values().sum();
            prop_assert_eq!(told.len() as u64 + unparsed, (expected.len() + now.len()) as u64);
        }
    }
}
