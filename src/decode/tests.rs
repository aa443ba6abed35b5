use super::*;
use proptest::prelude::*;
use std::hint::black_box;
use zerocopy::IntoBytes;

fn record() -> raw::SocketRecord {
    let mut record = raw::SocketRecord {
        header: raw::Header {
            time_ns: 7,
            kind: kind::CLOSE,
            flags: 0,
            len: size_of::<raw::SocketRecord>() as u32,
        },
        cookie: 11,
        generation: 2,
        netns: 13,
        connect_ns: 17,
        sent_bytes: 19,
        received_bytes: 23,
        local_port: 40_000,
        remote_port: 80,
        family: raw::AF_INET,
        stage: raw::stage::ESTABLISHED,
        flags: raw::socket_flag::SHOWN,
        ..Default::default()
    };
    record.remote[..4].copy_from_slice(&[192, 0, 2, 1]);
    record.owner.tgid = 29;
    record
}

#[test]
fn a_socket_record_keeps_every_field() {
    let Ok(Event::ConnectionClosed(event)) = news(record().as_bytes()) else {
        panic!("not a close");
    };
    assert_eq!(event.remote, "192.0.2.1:80".parse().unwrap());
    assert_eq!(
        (event.socket.cookie, event.socket.generation, event.netns.0),
        (11, 2, 13)
    );
    assert_eq!(
        (event.connect_ns, event.sent_bytes, event.received_bytes),
        (Some(17), 19, 23)
    );
    assert_eq!((event.owner.process.tgid, event.time_ns), (29, 7));
    assert!(event.shown && !event.listening);
}

#[test]
fn an_end_says_what_brought_it_about() {
    let mut record = raw::ProcessRecord {
        header: raw::Header {
            kind: kind::EXIT,
            ..Default::default()
        },
        exit_code: 9,
        ..Default::default()
    };
    let flags_of = |record: &raw::ProcessRecord| match news(record.as_bytes()) {
        Ok(Event::ProcessExited(event)) => (event.oom_killed, event.legacy_hierarchy),
        other => panic!("{other:?}"),
    };
    assert_eq!(flags_of(&record), (false, false));
    record.header.flags = raw::process_flag::OOM_KILLED;
    assert_eq!(flags_of(&record), (true, false));
    record.header.flags = raw::process_flag::LEGACY_HIERARCHY;
    assert_eq!(flags_of(&record), (false, true));
}

#[test]
fn a_mapped_address_is_ipv4() {
    let mut mapped = record();
    mapped.family = raw::AF_INET6;
    mapped.remote = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    let Ok(Event::ConnectionClosed(event)) = news(mapped.as_bytes()) else {
        panic!("not a close");
    };
    assert_eq!(event.remote, "192.0.2.1:80".parse().unwrap());
}

#[test]
fn what_makes_no_sense_is_an_error() {
    assert_eq!(news(&[]), Err(DecodeError::Short { len: 0 }));
    let whole = record();
    for len in 0..size_of::<raw::SocketRecord>() {
        assert!(news(&whole.as_bytes()[..len]).is_err(), "{len}");
    }
    let mut unknown = record();
    unknown.header.kind = kind::COUNT;
    assert_eq!(
        news(unknown.as_bytes()),
        Err(DecodeError::UnknownKind { kind: kind::COUNT })
    );
    let mut unix = record();
    unix.family = 1;
    assert_eq!(news(unix.as_bytes()), Err(DecodeError::UnknownFamily { family: 1 }));
    // Longer than expected: a newer program may say more.
    let mut long = record().as_bytes().to_vec();
    long.extend([0; 64]);
    assert!(news(&long).is_ok());
}

#[test]
fn a_cgroup_path_that_was_cut_is_no_path() {
    let mut record = raw::CgroupRecord {
        header: raw::Header {
            kind: kind::CGROUP_MADE,
            ..Default::default()
        },
        cgroup_id: 5,
        path_len: 4,
        path: [b'/'; raw::CGROUP_PATH_LEN],
    };
    let path_of = |record: &raw::CgroupRecord| match news(record.as_bytes()) {
        Ok(Event::CgroupMade(event)) => event.path,
        other => panic!("{other:?}"),
    };
    assert_eq!(path_of(&record).as_deref(), Some("///"));
    record.path_len = raw::CGROUP_PATH_LEN as i64;
    assert_eq!(path_of(&record), None);
    record.path_len = -14;
    assert_eq!(path_of(&record), None);
    record.path_len = i64::MAX;
    assert_eq!(path_of(&record), None);
}

#[test]
fn sums_of_more_than_there_can_be_are_none() {
    let key = raw::SumKey {
        family: u8::try_from(raw::AF_INET).unwrap(),
        ..Default::default()
    };
    let decoded = |sum: raw::Sum| sums(&[key.as_bytes(), sum.as_bytes()].concat()).next().unwrap();
    let mut sum = raw::Sum::default();
    sum.closes[0] = MOST;
    sum.received_bytes = MOST;
    assert_eq!(decoded(sum).map(|sum| sum.ended()), Ok(MOST));
    for add in [
        |sum: &mut raw::Sum| sum.closes[1] = u64::MAX,
        |sum: &mut raw::Sum| sum.connect_ns = u64::MAX,
        |sum: &mut raw::Sum| sum.received_bytes += u64::MAX - MOST,
    ] {
        let mut sum = sum;
        add(&mut sum);
        assert_eq!(decoded(sum), Err(DecodeError::Excessive { count: u64::MAX }));
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u16..20) {
        black_box(news(&bytes)).ok();
        black_box(kind_of(&bytes));
        assert!(sockets(&bytes).count() <= bytes.len());
        assert!(sums(&bytes).count() <= bytes.len());
        let mut typed = bytes;
        if let Some(at) = typed.get_mut(8..10) {
            at.copy_from_slice(&kind.to_ne_bytes());
        }
        black_box(news(&typed)).ok();
    }
}
