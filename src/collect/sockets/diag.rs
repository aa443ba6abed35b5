//! INET_DIAG: what is asked, and what the kernel answers. Bytes only: the asking is in `dump`.
//!
//! An answer is a row of netlink messages. One that tells of a socket has the kernel's `inet_diag_msg`, then attributes, of
//! which `tcp_info` is one; that has grown over the years, and older kernels send a shorter one.

use super::{
    State,
    seen::{Counters, Seen, address},
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Of the kernel's `sock_diag.h`, `netlink.h`, `inet_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const INET_DIAG_INFO: u16 = 2;
/// Attributes may be marked as nested or in network byte order.
const TYPE_MASK: u16 = 0x3fff;

const HEADER_BYTES: usize = 16;
const SOCKET_BYTES: usize = 72;
const ATTRIBUTE_BYTES: usize = 4;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4 = 2,
    V6 = 10,
}

/// All TCP sockets of a family that are in one of `states` (a bit for each, as [`State::bit`] has them).
pub fn request(family: Family, states: u32, sequence: u32) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    let parts: [&[u8]; 9] = [
        &(REQUEST_BYTES as u32).to_ne_bytes(),
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST_DUMP.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        // To the kernel.
        &[0; 4],
        &[family as u8, libc::IPPROTO_TCP as u8],
        // The attributes that are wanted.
        &[1 << (INET_DIAG_INFO - 1), 0],
        &states.to_ne_bytes(),
        // Any addresses.
        &[0; 48],
    ];
    let bytes = parts.into_iter().flatten();
    request.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    request
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Socket(Seen),
    /// In a state that was not asked for, or something else that is no answer.
    Other,
    Done,
    /// `errno`
    Failed(i32),
    /// Not as the kernel writes it. What follows is lost with it if its length cannot be right.
    Malformed,
}

/// Total: each message has at least one byte, so it ends.
pub fn messages(bytes: &[u8], sequence: u32) -> impl Iterator<Item = Message> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((message, after)) = split(rest) else {
            rest = &[];
            return Some(Message::Malformed);
        };
        rest = after;
        Some(read(message, sequence).unwrap_or(Message::Malformed))
    })
}

/// The first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    if length < HEADER_BYTES {
        return None;
    }
    let message = bytes.get(..length)?;
    // The last one need not be padded.
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn read(message: &[u8], sequence: u32) -> Option<Message> {
    if u32_at(message, 8)? != sequence {
        return Some(Message::Other);
    }
    let body = message.get(HEADER_BYTES..)?;
    let errno = || u32_at(body, 0).map(|number| (number as i32).saturating_neg());
    Some(match u16_at(message, 4)? {
        SOCK_DIAG_BY_FAMILY => socket(body)?.map_or(Message::Other, Message::Socket),
        NLMSG_DONE => match errno() {
            Some(errno) if errno > 0 => Message::Failed(errno),
            _ => Message::Done,
        },
        // 0 would be an acknowledgement, which nobody asked for.
        NLMSG_ERROR => match errno()? {
            errno if errno > 0 => Message::Failed(errno),
            _ => Message::Other,
        },
        _ => Message::Other,
    })
}

fn socket(body: &[u8]) -> Option<Option<Seen>> {
    let [family, state] = at(body, 0)?;
    let v6 = match family {
        family if family == Family::V4 as u8 => false,
        family if family == Family::V6 as u8 => true,
        _ => return None,
    };
    let Some(state) = State::from_kernel(state) else {
        return Some(None);
    };
    let at_port = |offset| at(body, offset).map(u16::from_be_bytes);
    let side = |ip: usize, port| {
        let port = at_port(port)?;
        Some(if v6 {
            address(Ipv6Addr::from(at::<16>(body, ip)?), port)
        } else {
            address(Ipv4Addr::from(at::<4>(body, ip)?), port)
        })
    };
    let (local, remote) = (side(8, 4)?, side(24, 6)?);
    let cookie = u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32;
    let inode = u64::from(u32_at(body, 68)?);
    let mut counters = None;
    if state != State::Listen {
        counters = attribute(body.get(SOCKET_BYTES..)?, INET_DIAG_INFO)?.and_then(tcp_info);
    }
    Some(Some(Seen {
        v6,
        local,
        remote,
        state,
        inode,
        cookie: Some(cookie),
        counters,
    }))
}

/// `None`: the row of attributes is not as it should be.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<Option<&[u8]>> {
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(ATTRIBUTE_BYTES..length)?;
        if u16_at(bytes, 2)? & TYPE_MASK == wanted {
            return Some(Some(value));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(None)
}

/// `None` before Linux 4.1, which counted nothing.
fn tcp_info(bytes: &[u8]) -> Option<Counters> {
    let u64_at = |offset| at(bytes, offset).map(u64::from_ne_bytes);
    let sent = u64_at(200).zip(u64_at(208));
    Some(Counters {
        unacked_segments: u32_at(bytes, 24)?,
        rtt_us: u32_at(bytes, 68)?,
        retransmits: u32_at(bytes, 100)?,
        acked_bytes: u64_at(120)?,
        received_bytes: u64_at(128)?,
        sent_bytes: sent.map(|(sent, retransmitted)| sent.saturating_sub(retransmitted)),
    })
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    at(bytes, offset).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    at(bytes, offset).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    /// Of a 6.18 kernel: a namespace with three listeners, of which one is closed, and five connections.
    const RECORDED: &[u8] = include_bytes!("../testdata/inet_diag");
    const SEQUENCE: u32 = 7;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (HEADER_BYTES + body.len()) as u32;
        let header: [&[u8]; 6] = [
            &length.to_ne_bytes(),
            &kind.to_ne_bytes(),
            &[0; 2],
            &SEQUENCE.to_ne_bytes(),
            &[0; 4],
            body,
        ];
        let mut bytes = header.concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn only(bytes: &[u8]) -> Message {
        let mut found: Vec<_> = messages(bytes, SEQUENCE).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// An established IPv4 socket with these attributes.
    fn established(attributes: &[u8]) -> Vec<u8> {
        let mut body = [0; SOCKET_BYTES];
        body[0] = Family::V4 as u8;
        body[1] = State::Established as u8;
        message(SOCK_DIAG_BY_FAMILY, &[&body, attributes].concat())
    }

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = (ATTRIBUTE_BYTES + value.len()) as u16;
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    }

    #[test]
    fn as_the_kernel_tells() {
        let mut text = String::new();
        for message in messages(RECORDED, SEQUENCE) {
            match message {
                Message::Socket(seen) => {
                    let Seen {
                        v6,
                        local,
                        remote,
                        state,
                        inode,
                        cookie,
                        counters,
                    } = seen;
                    let v6 = if v6 { "v6" } else { "v4" };
                    let state = state.as_str();
                    writeln!(text, "{v6} {local} {remote} {state} {inode} {:x}", cookie.unwrap()).unwrap();
                    if let Some(c) = counters {
                        let (acked, received, sent) = (c.acked_bytes, c.received_bytes, c.sent_bytes.unwrap());
                        writeln!(
                            text,
                            "   acked {acked} sent {sent} received {received} rtt {}",
                            c.rtt_us
                        )
                        .unwrap();
                        assert_eq!((c.unacked_segments, c.retransmits), (0, 0));
                    }
                }
                other => writeln!(text, "{other:?}").unwrap(),
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn cut_anywhere() {
        let whole: Vec<_> = messages(RECORDED, SEQUENCE).collect();
        for length in 0..RECORDED.len() {
            let found: Vec<_> = messages(&RECORDED[..length], SEQUENCE).collect();
            let right = found.iter().filter(|message| **message != Message::Malformed).count();
            assert_eq!(found[..right], whole[..right], "{length}");
            assert!(found.len() - right <= 1, "{length}");
        }
    }

    #[test]
    fn ends_and_errors() {
        assert_eq!(only(&message(NLMSG_DONE, &[])), Message::Done);
        assert_eq!(only(&message(NLMSG_DONE, &0i32.to_ne_bytes())), Message::Done);
        let denied = (-libc::EPERM).to_ne_bytes();
        assert_eq!(only(&message(NLMSG_DONE, &denied)), Message::Failed(libc::EPERM));
        assert_eq!(only(&message(NLMSG_ERROR, &denied)), Message::Failed(libc::EPERM));
        assert_eq!(
            only(&message(NLMSG_ERROR, &i32::MIN.to_ne_bytes())),
            Message::Failed(i32::MAX)
        );
        assert_eq!(only(&message(NLMSG_ERROR, &[0; 4])), Message::Other);
        assert_eq!(only(&message(NLMSG_ERROR, &[0; 3])), Message::Malformed);
        assert_eq!(only(&message(99, &[])), Message::Other);
        // An answer to an earlier question.
        assert!(messages(&message(NLMSG_DONE, &[]), SEQUENCE + 1).eq([Message::Other]));
    }

    #[test]
    fn lengths_that_cannot_be() {
        for length in [0u32, 15, 17, u32::MAX] {
            let mut bytes = message(NLMSG_DONE, &[]);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(only(&bytes), Message::Malformed, "{length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut attribute = attribute_of(1, &[0; 4]);
            attribute[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(only(&established(&attribute)), Message::Malformed, "{length}");
        }
    }

    #[test]
    fn older_kernels() {
        let counters = |info: &[u8]| {
            let attributes = [attribute_of(1, &[9; 8]), attribute_of(INET_DIAG_INFO | 0x8000, info)].concat();
            let Message::Socket(seen) = only(&established(&attributes)) else {
                panic!("a socket")
            };
            seen.counters
        };
        let info: Vec<u8> = (0..=231).collect();
        let value = |offset| u64::from_ne_bytes(std::array::from_fn(|n| (offset + n) as u8));
        let sent = value(200).saturating_sub(value(208));
        assert_eq!(counters(&info).unwrap().sent_bytes, Some(sent));
        let before = counters(&info[..200]).unwrap();
        assert_eq!((before.sent_bytes, before.acked_bytes), (None, value(120)));
        assert_eq!(before.received_bytes, value(128));
        assert_eq!(counters(&info[..104]), None);
        assert_eq!(counters(&[]), None);
        let Message::Socket(seen) = only(&established(&[])) else {
            panic!("a socket")
        };
        assert_eq!(seen.counters, None);
    }

    #[test]
    fn families_and_states() {
        for (family, state, expected) in [
            (1, 1, Message::Malformed),
            (2, 6, Message::Other),
            (10, 255, Message::Other),
        ] {
            let mut body = [0; SOCKET_BYTES];
            (body[0], body[1]) = (family, state);
            assert_eq!(only(&message(SOCK_DIAG_BY_FAMILY, &body)), expected);
        }
    }

    proptest! {
        #[test]
        fn total(bytes: Vec<u8>, at in 0..RECORDED.len(), byte: u8) {
            messages(&bytes, SEQUENCE).for_each(drop);
            let mut damaged = RECORDED.to_vec();
            damaged[at] = byte;
            prop_assert!(messages(&damaged, SEQUENCE).count() <= RECORDED.len() / HEADER_BYTES);
            messages(&established(&bytes), SEQUENCE).for_each(drop);
        }
    }
}
