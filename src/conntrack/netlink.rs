//! One question to the connection tracking of a network namespace, over netlink.
#![deny(clippy::indexing_slicing, clippy::string_slice)]
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{self, SocketAddrNetlink},
        recv, sendto, socket_with, sockopt,
    },
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Duration,
};

/// What the connection tracking says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It does not know it.
    Unknown,
    /// It goes where it was sent.
    Direct,
    To(SocketAddr),
}

/// The kernel answers before the send returns; this is for one that does not.
const DEADLINE: Duration = Duration::from_secs(1);
/// An entry has some hundred bytes.
const ANSWER_BYTES: usize = 8192;

/// Of the namespace in which it was made, which lives as long as this does.
#[derive(Debug)]
pub(super) struct Conntrack {
    socket: OwnedFd,
    sequence: u32,
}

impl Conntrack {
    /// In the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEADLINE))?;
        Ok(Self { socket, sequence: 0 })
    }

    pub(super) fn ask(&mut self, from: SocketAddr, to: SocketAddr) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(from, to, self.sequence);
        sendto(
            &self.socket,
            &question,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut buffer = [0; ANSWER_BYTES];
        loop {
            let (_, len) = recv(&self.socket, &mut buffer, RecvFlags::TRUNC)?;
            let bytes = buffer.get(..len).ok_or(io::ErrorKind::InvalidData)?;
            // Of a question that was given up.
            if let Some(answer) = answer(bytes, self.sequence, from, to)? {
                return Ok(answer);
            }
        }
    }
}

fn question(from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    let family = match to.ip() {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let get = ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple(from, to))]);
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), get);
    let mut header = NetlinkHeader::default();
    (header.flags, header.sequence_number) = (NLM_F_REQUEST, sequence);
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn tuple(from: SocketAddr, to: SocketAddr) -> Vec<Tuple> {
    vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(from.ip()),
            IPTuple::DestinationAddress(to.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(from.port()),
            ProtoTuple::DestinationPort(to.port()),
        ]),
    ]
}

/// `None`: it is no answer to this question.
fn answer(bytes: &[u8], sequence: u32, from: SocketAddr, to: SocketAddr) -> io::Result<Option<Answer>> {
    let nonsense = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes).map_err(nonsense)?;
    if message.header.sequence_number != sequence {
        return Ok(None);
    }
    let attributes = match message.payload {
        NetlinkPayload::Error(error) => {
            let error = error.to_io();
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Ok(Some(Answer::Unknown)),
                _ => Err(error),
            };
        }
        NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
            ..
        }) => attributes,
        _ => return Ok(None),
    };
    let (mut asked, mut replies) = (None, None);
    for attribute in &attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => asked = ends(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => replies = ends(tuple),
            _ => {}
        }
    }
    Ok(Some(match (asked, replies) {
        (Some(asked), Some((actual, _))) if asked == (from, to) && actual != to => Answer::To(actual),
        _ => Answer::Direct,
    }))
}

/// Source and destination.
fn ends(tuple: &[Tuple]) -> Option<(SocketAddr, SocketAddr)> {
    let (mut ips, mut ports) = ((None, None), (None, None));
    for part in tuple {
        match part {
            Tuple::Ip(of) => {
                for ip in of {
                    match ip {
                        IPTuple::SourceAddress(ip) => ips.0 = Some(*ip),
                        IPTuple::DestinationAddress(ip) => ips.1 = Some(*ip),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(of) => {
                for port in of {
                    match port {
                        ProtoTuple::SourcePort(port) => ports.0 = Some(*port),
                        ProtoTuple::DestinationPort(port) => ports.1 = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some((SocketAddr::new(ips.0?, ports.0?), SocketAddr::new(ips.1?, ports.1?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn tuple(from: &str, to: &str) -> Vec<Tuple> {
        super::tuple(address(from), address(to))
    }

    fn entry(asked: Vec<Tuple>, replies: Vec<Tuple>) -> Vec<u8> {
        let attributes = vec![
            ConntrackAttribute::CtaTupleOrig(asked),
            ConntrackAttribute::CtaTupleReply(replies),
        ];
        let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
        let message = NetfilterMessage::new(header, ConntrackMessage::New(attributes));
        let mut header = NetlinkHeader::default();
        header.sequence_number = 7;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    const CLIENT: &str = "10.99.1.2:39134";
    const SERVICE: &str = "10.99.100.1:80";

    fn told(bytes: &[u8]) -> Option<Answer> {
        answer(bytes, 7, address(CLIENT), address(SERVICE)).unwrap()
    }

    #[test]
    fn where_it_goes() {
        let translated = entry(tuple(CLIENT, SERVICE), tuple("10.99.2.2:8080", CLIENT));
        assert_eq!(told(&translated), Some(Answer::To(address("10.99.2.2:8080"))));
        let direct = entry(tuple(CLIENT, SERVICE), tuple(SERVICE, CLIENT));
        assert_eq!(told(&direct), Some(Answer::Direct));
        // Its source is another on the way: that changes nothing for it.
        let source = entry(tuple(CLIENT, SERVICE), tuple(SERVICE, "192.0.2.1:1000"));
        assert_eq!(told(&source), Some(Answer::Direct));
        // The other direction of somebody else's.
        let other = entry(tuple(SERVICE, CLIENT), tuple("10.99.2.2:8080", SERVICE));
        assert_eq!(told(&other), Some(Answer::Direct));
        let half = entry(tuple(CLIENT, SERVICE), Vec::new());
        assert_eq!(told(&half), Some(Answer::Direct));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let bytes = entry(tuple(CLIENT, SERVICE), tuple("10.99.2.2:8080", CLIENT));
        assert_eq!(answer(&bytes, 8, address(CLIENT), address(SERVICE)).unwrap(), None);
    }

    proptest! {
        #[test]
        fn total(bytes: Vec<u8>) {
            drop(answer(&bytes, 7, address(CLIENT), address(SERVICE)));
        }

        #[test]
        fn a_cut_or_damaged_entry_is_no_panic(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = entry(tuple(CLIENT, SERVICE), tuple("10.99.2.2:8080", CLIENT));
            if let Some(damaged) = bytes.get_mut(at) {
                *damaged = byte;
            }
            bytes.truncate(cut);
            drop(answer(&bytes, 7, address(CLIENT), address(SERVICE)));
        }
    }
}
