//! Which answer is whose, and when.
use super::{encoder::*, *};

#[test]
fn a_query_has_its_latency_to_its_first_word_and_its_status_from_its_last() {
    let mut talk = Talk::logged_in();
    talk.client(&query("SELECT x"))
        .server(&[notice(), row_description()].concat())
        .server(&row(9))
        .server(&error())
        .server(&ready());
    assert_eq!((talk.statuses(), talk.times()), (vec![Failed], vec![(3, 4)]));
}

#[test]
fn a_query_of_several_segments_was_asked_in_the_first() {
    let mut talk = Talk::logged_in();
    let asked = query(&"x".repeat(3000));
    for piece in asked.chunks(1000) {
        assert!(!talk.dialogue.expects_reply());
        talk.client(piece);
    }
    assert!(talk.dialogue.expects_reply());
    talk.server(&[row_description(), complete()].concat()).server(&ready());
    assert_eq!((talk.statuses(), talk.times()), (vec![Ok], vec![(3, 7)]));
    assert!(!talk.dialogue.expects_reply());
}

#[test]
fn of_several_statements_one_fails_all() {
    let mut talk = Talk::logged_in();
    talk.client(&query("x; y; z"))
        .server(&[complete(), bare('I'), error(), ready()].concat());
    talk.client(&query("")).server(&[bare('I'), ready()].concat());
    talk.client(&call())
        .server(&[message(b'V', &[255; 4]), ready()].concat());
    talk.client(&call()).server(&[error(), ready()].concat());
    assert_eq!(talk.statuses(), [Failed, Ok, Ok, Failed]);
}

#[test]
fn an_execute_of_which_an_earlier_one_fails_fails() {
    let mut talk = Talk::logged_in();
    let one = [bind("", "s"), execute("")].concat();
    talk.client(&[one.repeat(2), one.repeat(3), sync()].concat())
        .server(&[bare('2'), complete(), bare('2'), row(3), error()].concat())
        .server(&ready());
    assert_eq!(talk.statuses(), [Ok, Failed, Failed, Failed, Failed]);
    assert_eq!(talk.times(), [(3, 4); 5]);
}

#[test]
fn an_execute_said_after_the_error_fails_too() {
    let mut talk = Talk::logged_in();
    talk.client(&[parse("s", "x"), flush()].concat())
        .server(&error())
        .client(&[bind("", "s"), execute(""), execute(""), sync()].concat())
        .server(&ready());
    assert_eq!((talk.statuses(), talk.times()), (vec![Failed; 2], vec![(3, 4), (5, 6)]));
    // And is no trouble to the next.
    talk.client(&query("x")).server(&[complete(), ready()].concat());
    assert_eq!(talk.statuses(), [Failed, Failed, Ok]);
}

#[test]
fn the_last_execute_fails_with_the_commit() {
    let mut talk = Talk::logged_in();
    let one = [bind("", "s"), execute("")].concat();
    talk.client(&[one.repeat(2), sync()].concat())
        .server(&[[bare('2'), complete()].concat().repeat(2), error(), ready()].concat());
    assert_eq!(talk.statuses(), [Ok, Failed]);
}

#[test]
fn what_is_flushed_is_answered_at_once() {
    let mut talk = Talk::logged_in();
    talk.client(&[parse("s", "x"), describe('S', "s"), flush()].concat());
    assert!(talk.dialogue.expects_reply());
    talk.server(&[bare('1'), bare('n')].concat());
    assert!(!talk.dialogue.expects_reply());
    talk.client(&[bind("", "s"), execute(""), sync()].concat())
        .server(&[bare('2'), complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.times()), (vec![Ok], vec![(5, 6)]));
    // Nothing is executed: a prepare, from its first byte to its first answer.
    talk.client(&[parse("s", "x"), flush()].concat())
        .server(&bare('1'))
        .client(&sync())
        .server(&ready());
    assert_eq!((talk.statuses(), talk.times()), (vec![Ok; 2], vec![(5, 6), (7, 8)]));
}

#[test]
fn a_cursor_counts_each_time() {
    let mut talk = Talk::logged_in();
    talk.client(&[parse("", "x"), bind("c", ""), execute("c"), flush()].concat())
        .server(&[bare('1'), bare('2'), row(1), bare('s')].concat())
        .client(&[execute("c"), flush()].concat())
        .server(&[row(1), bare('s')].concat())
        .client(&[execute("c"), close('P', "c"), sync()].concat())
        .server(&[complete(), bare('3'), ready()].concat());
    assert_eq!(
        (talk.statuses(), talk.times()),
        (vec![Ok; 3], vec![(3, 4), (5, 6), (7, 8)])
    );
}

#[test]
fn several_syncs_may_be_under_way() {
    let mut talk = Talk::logged_in();
    let batch = |executes: usize| [[bind("", "s"), execute("")].concat().repeat(executes), sync()].concat();
    talk.client(&batch(2))
        .client(&sync())
        .client(&batch(1))
        .client(&close('S', "s"))
        .client(&batch(1));
    talk.server(&[[bare('2'), complete()].concat().repeat(2), ready(), ready()].concat());
    talk.server(&[bare('2'), error(), ready()].concat());
    talk.server(&[bare('3'), bare('2'), complete(), ready()].concat());
    assert_eq!(talk.statuses(), [Ok, Ok, Failed, Ok]);
    assert_eq!(talk.times(), [(3, 8), (3, 8), (5, 9), (6, 10)]);
    assert!(!talk.dialogue.expects_reply());
}

#[test]
fn copies_count_once() {
    let mut talk = Talk::logged_in();
    talk.client(&query("COPY t FROM STDIN"))
        .server(&copy_begins('G'))
        .client(&copy_data(9).repeat(9))
        .client(&[copy_data(9), bare('c')].concat())
        .server(&[complete(), ready()].concat());
    talk.client(&query("COPY t FROM STDIN"))
        .server(&copy_begins('G'))
        .client(&copy_fail())
        .server(&[error(), ready()].concat());
    talk.client(&query("COPY t TO STDOUT"))
        .server(&[copy_begins('H'), copy_data(4)].concat())
        .server(&[copy_data(2), bare('c'), complete(), ready()].concat());
    talk.client(&query("START_REPLICATION"))
        .server(&copy_begins('W'))
        .server(&copy_data(9))
        .client(&copy_data(9))
        .server(&copy_data(9))
        .client(&bare('c'))
        .server(&[bare('c'), complete(), ready()].concat());
    assert_eq!(talk.statuses(), [Ok, Failed, Ok, Ok]);
    assert_eq!(talk.times(), [(3, 4), (8, 9), (12, 13), (15, 16)]);
}

#[test]
fn a_sync_amid_a_copy_has_no_answer() {
    let mut talk = Talk::logged_in();
    talk.client(&[parse("", "x"), bind("", ""), execute(""), sync()].concat())
        .server(&[bare('1'), bare('2'), copy_begins('G')].concat())
        .client(&copy_data(9))
        .client(&sync())
        .client(&[bare('c'), sync()].concat())
        .server(&[complete(), ready()].concat());
    talk.client(&query("x")).client(&query("y"));
    talk.server(&[error(), ready()].concat())
        .server(&[complete(), ready()].concat());
    assert_eq!(talk.statuses(), [Ok, Failed, Ok]);
}

#[test]
fn what_nobody_asked_for_counts_nothing() {
    let mut talk = Talk::logged_in();
    talk.server(&notice())
        .server(&notification())
        .server(&message(b'S', b"a\0b\0"));
    assert!(!talk.dialogue.expects_reply());
    // The server is shut down.
    talk.server(&error()).end();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![], vec![]));
}

#[test]
fn a_failed_login_is_no_query() {
    for asked in [startup(), [gssenc_request(), ssl_request()].concat()] {
        let mut talk = Talk::default();
        talk.client(&asked).server(&error()).end();
        assert_eq!((talk.statuses(), talk.unparsed()), (vec![], vec![]));
    }
    let mut talk = Talk::default();
    talk.client(&gssenc_request())
        .server(b"N")
        .client(&ssl_request())
        .server(b"N")
        .client(&startup());
    talk.server(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))
        .client(&message(b'p', b"SCRAM-SHA-256\0\0\0\0\x03n,,"))
        .server(&message(b'R', b"\0\0\0\x0br="))
        .client(&message(b'p', b""))
        .server(&error())
        .end();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![], vec![]));
}

#[test]
fn a_cancel_request_is_all_there_is() {
    let mut talk = Talk::default();
    talk.client(&cancel_request());
    assert!(talk.dialogue.is_over());
    talk.end();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![], vec![]));
}

#[test]
fn the_end_leaves_requests_unanswered() {
    let mut talk = Talk::logged_in();
    talk.client(&[query("x"), query("y"), bind("", "s"), execute(""), sync(), call()].concat());
    talk.server(&[complete(), ready()].concat()).server(&row(3)).end();
    assert_eq!(
        (talk.statuses(), talk.unparsed()),
        (vec![Ok], vec![(UnparsedReason::Unanswered, 3)])
    );
    // A reply that says no is one, even if it is the last word.
    let mut talk = Talk::logged_in();
    talk.client(&query("x")).server(&error()).end();
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Failed], vec![]));
    let mut talk = Talk::logged_in();
    talk.client(&[execute(""), execute(""), sync(), query("x")].concat())
        .server(&complete())
        .server(&error())
        .end();
    assert_eq!(
        (talk.statuses(), talk.unparsed()),
        (vec![Ok, Failed], vec![(UnparsedReason::Unanswered, 1)])
    );
}

#[test]
fn what_the_kernel_has_begun_goes_on() {
    use crate::l7::dialogue::Handover;
    let asked = query("SELECT x");
    let over = |pending, rest: &[u8]| {
        let mut talk = Talk {
            now_ns: 10,
            ..Talk::default()
        };
        talk.dialogue.take_over(Handover {
            pending,
            asked_ns: 7,
            rest: rest.len() as u64,
            ..Handover::default()
        });
        talk
    };
    let mut talk = over(1, &asked[6..]);
    assert!(talk.dialogue.expects_reply());
    talk.client(&asked[6..])
        .server(&[row_description(), error(), ready()].concat());
    talk.client(&[bind("", "s"), execute(""), sync()].concat())
        .server(&[bare('2'), complete(), ready()].concat());
    assert_eq!(
        (talk.statuses(), talk.times()),
        (vec![Failed, Ok], vec![(7, 12), (13, 14)])
    );
    let mut talk = over(0, &[]);
    talk.server(&row(50)[20..])
        .server(b"xx")
        .client(&asked)
        .server(&[complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![]));
    // What is within a row looks like messages, and begins a segment.
    let mut talk = over(0, &[]);
    let misleading = [ready(), ready()].concat();
    let row = message(b'D', &[&[0, 1, 0, 0, 0, 12], misleading.as_slice()].concat());
    let (begin, within) = row.split_at(row.len() - misleading.len());
    talk.client(&[bind("", "s"), execute(""), sync()].concat())
        .server(&[&bare('2'), begin].concat())
        .server(within)
        .server(&[complete(), ready()].concat());
    assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![]));
    // That is over once something is missing: the next that looks like messages may be within one.
    let mut talk = over(0, &[]);
    talk.dialogue.server.miss(1);
    talk.server(&bare('2'));
    assert!(!talk.dialogue.server.is_sure());
}

#[test]
fn who_takes_over_from_the_start_hears_of_a_login() {
    for opening in [startup(), [ssl_request(), startup()].concat()] {
        let mut talk = Talk::default();
        talk.dialogue.take_over(crate::l7::dialogue::Handover::default());
        let (asks, who) = opening.split_at(opening.len() - startup().len());
        if !asks.is_empty() {
            talk.client(asks).server(b"N");
        }
        talk.client(who)
            .server(&welcome())
            .client(&query("SELECT x"))
            .server(&[complete(), ready()].concat());
        assert_eq!((talk.statuses(), talk.unparsed()), (vec![Ok], vec![]));
    }
}
