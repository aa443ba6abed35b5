use super::*;
use crate::{
    base::{
        fqdn::Fqdn,
        ids::{CgroupId, NetnsId},
    },
    decode::{Exchanges, Protocol, Role, SocketEvent, Unparsed, UnparsedReason},
};
use proptest::prelude::*;

fn preamble() -> Preamble {
    Preamble {
        node: Node {
            host_netns: NetnsId(1),
            root_cgroup: CgroupId(1),
            cgroup_base: "/".into(),
            legacy_hierarchies: true,
            own_tgid: 7,
        },
        config: crate::config::Config::default(),
        machine_id: "m".into(),
        system_uuid: "u".into(),
        runtimes: false,
    }
}

/// With all that may be known of them.
fn exchanges() -> Exchanges {
    Exchanges {
        actual: Some("[2001:db8::1]:443".parse().unwrap()),
        name: Some(Fqdn::new(b"a.example").unwrap()),
        ..Exchanges::example(Role::Client, Protocol::Memcached)
    }
}

fn recording() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let recorder = Recorder::create(&path, &preamble()).unwrap();
    let now = Now {
        monotonic_ns: 1,
        boottime_ns: 2,
        wall_ns: 3,
    };
    let raw = RawBatch {
        news: vec![1, 2, 3],
        seen: vec![],
        spilled_sockets: vec![4],
        spilled_sums: vec![5, 6],
        files: vec![7],
    };
    recorder.batch(now, &raw);
    recorder.answer(
        now,
        &Answer::Cgroup {
            cgroup: CgroupId(9),
            path: Some("/a".into()),
        },
    );
    let mut filters = crate::config::Filters::default();
    filters.signals.tcp.deny = vec!["^/a".parse().unwrap()];
    recorder.filters(now, &filters);
    let answer = DnsAnswered {
        name: (*b"a\xff.example").into(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    };
    recorder.dns_answered(now, &answer);
    recorder.names_forgotten(&answer.addresses);
    let said = Event::Unparsed(Unparsed {
        owner: SocketEvent::example().owner,
        protocol: Protocol::Dns,
        reason: UnparsedReason::Unanswered,
        count: 2,
    });
    recorder.said(now, &[&said, &Event::Exchanges(exchanges())]);
    recorder.said(now, &[]);
    recorder.tick(now);
    recorder.finish(now).unwrap();
    std::fs::read(path).unwrap()
}

fn frames(bytes: &[u8]) -> Result<Vec<Frame>, RecordingError> {
    let mut reader = Reader::new(bytes)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn what_was_written_is_read() {
    let frames = frames(&recording()).unwrap();
    assert_eq!(frames.len(), 9);
    assert!(matches!(&frames[0], Frame::Preamble(preamble) if preamble.machine_id == "m"));
    assert!(matches!(&frames[1], Frame::Batch(now, raw)
        if now.wall_ns == 3 && raw.news == [1, 2, 3] && raw.spilled_sockets == [4] && raw.spilled_sums == [5, 6] && raw.files == [7]));
    assert!(matches!(&frames[2], Frame::Answer(_, Answer::Cgroup { path: Some(path), .. }) if &**path == "/a"));
    assert!(matches!(&frames[3], Frame::Filters(_, filters) if filters.signals.tcp.deny[0].as_str() == "^/a"));
    assert!(matches!(&frames[4], Frame::DnsAnswered(now, answer)
        if now.wall_ns == 3 && *answer.name == *b"a\xff.example" && answer.addresses.len() == 2));
    assert!(matches!(&frames[5], Frame::NamesForgotten(addresses) if addresses[0].is_ipv4() && addresses[1].is_ipv6()));
    assert!(
        matches!(&frames[6], Frame::Said(_, events) if matches!(&events[..], [Event::Unparsed(of), Event::Exchanges(all)]
            if of.count == 2 && *all == exchanges()))
    );
    assert!(matches!(&frames[8], Frame::End(now) if now.boottime_ns == 2));
}

#[test]
fn a_batch_of_before_there_were_files_is_read() {
    let part = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let parts = [&[1, 2][..], &[], &[], &[3]].map(part).concat();
    let payload = [&[0; 24][..], &parts].concat();
    let frame = [MAGIC, &[tag::BATCH], &part(&payload)].concat();
    let frames = frames(&frame).unwrap();
    assert!(matches!(&frames[..], [Frame::Batch(_, raw)]
        if raw.news == [1, 2] && raw.spilled_sums == [3] && raw.files.is_empty()));
}

#[test]
fn a_cut_file_is_an_error_at_its_place() {
    let whole = recording();
    assert!(matches!(frames(b"something else"), Err(RecordingError::NotARecording)));
    let cut = frames(&whole[..whole.len() - 1]);
    assert!(matches!(cut, Err(RecordingError::Damaged { at }) if at > MAGIC.len() as u64));
}

#[test]
fn a_recording_of_before_there_were_names_is_read() {
    let mut preamble = serde_json::to_value(preamble()).unwrap();
    let section = preamble["config"].as_object_mut().unwrap().remove("fqdn");
    assert!(section.is_some());
    let payload = serde_json::to_vec(&preamble).unwrap();
    let frame = [MAGIC, &[tag::PREAMBLE], &(payload.len() as u32).to_le_bytes(), &payload].concat();
    let frames = frames(&frame).unwrap();
    assert!(matches!(&frames[..], [Frame::Preamble(preamble)] if preamble.config.fqdn.max_entries > 0));
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_frame_or_an_error(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(frames(&tail));
        drop(frames(&[MAGIC, &tail].concat()));
    }
}
