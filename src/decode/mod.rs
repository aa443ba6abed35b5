//! Bytes of the kernel to typed events. Stateless and total: whatever comes, it answers.
#![deny(clippy::indexing_slicing, clippy::string_slice)]
mod event;
mod files;
mod requests;

pub use event::*;
pub use files::*;
pub use requests::*;

use crate::{
    base::ids::{CgroupId, NetnsId, ProcKey, SocketId},
    l7::{
        Begin, Between, Counted, Direction, End, Part, Segment, Transport,
        dialogue::{Handover, Side},
    },
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tarsier_common as raw;
use tarsier_common::{exchange, kind};
use zerocopy::FromBytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("record of {len} bytes is too short")]
    Short { len: usize },
    #[error("kind {kind} is not known")]
    UnknownKind { kind: u16 },
    #[error("address family {family} is not known")]
    UnknownFamily { family: u16 },
    #[error("protocol {protocol} is not known")]
    UnknownProtocol { protocol: u8 },
    #[error("close reason {reason} is not known")]
    UnknownReason { reason: u8 },
    #[error("a count of {count} is more than there can be")]
    Excessive { count: u64 },
}

/// More than a node counts in a hundred years, and so little that some of them can be added up.
const MOST: u64 = 1 << 56;

fn check<const N: usize>(counts: [u64; N]) -> Result<(), DecodeError> {
    match counts.into_iter().find(|count| *count > MOST) {
        Some(count) => Err(DecodeError::Excessive { count }),
        None => Ok(()),
    }
}

/// The kind a record of the ring says it is, for the books: they are kept even of records that make no sense.
pub fn kind_of(record: &[u8]) -> Option<u16> {
    let (header, _) = raw::Header::read_from_prefix(record).ok()?;
    (header.kind < kind::COUNT).then_some(header.kind)
}

/// One record of the news ring.
pub fn news(record: &[u8]) -> Result<Event, DecodeError> {
    let header: raw::Header = read(record)?;
    Ok(match header.kind {
        kind::FORK => Event::ProcessStarted(process(record)?),
        kind::EXEC => Event::ProcessExec(process(record)?),
        kind::EXIT => Event::ProcessExited(process(record)?),
        kind::CGROUP_MOVE => Event::CgroupMoved(process(record)?),
        kind::CGROUP_MADE => Event::CgroupMade(cgroup(record)?),
        kind::CGROUP_GONE => Event::CgroupRemoved(cgroup(record)?),
        kind::CONNECT_FAILED => Event::ConnectionFailed(socket(record)?),
        kind::CLOSE => Event::ConnectionClosed(socket(record)?),
        kind::ACCEPTED_CLOSE => Event::AcceptedClosed(socket(record)?),
        kind::LISTEN => Event::ListenOpened(socket(record)?),
        kind::LISTEN_CLOSE => Event::ListenClosed(socket(record)?),
        kind => return Err(DecodeError::UnknownKind { kind }),
    })
}

/// Rows of a totals pass or of the spilled sockets. A rest that is no whole row is left out.
pub fn sockets(rows: &[u8]) -> impl Iterator<Item = Result<SocketEvent, DecodeError>> + '_ {
    rows.chunks_exact(size_of::<raw::SocketRecord>()).map(socket)
}

/// Rows of the spilled sums: key and value, one behind the other.
pub fn sums(rows: &[u8]) -> impl Iterator<Item = Result<SumEvent, DecodeError>> + '_ {
    rows.chunks_exact(size_of::<raw::SumKey>() + size_of::<raw::Sum>())
        .map(|row| {
            let (key, rest) =
                raw::SumKey::read_from_prefix(row).map_err(|_short| DecodeError::Short { len: row.len() })?;
            let sum: raw::Sum = read(rest)?;
            check([sum.connects, sum.failures, sum.connect_ns, sum.retransmits])?;
            check([sum.sent_bytes, sum.received_bytes])?;
            check(sum.closes)?;
            Ok(SumEvent {
                cgroup: CgroupId(key.cgroup_id),
                process: (key.tgid != 0).then_some(ProcKey {
                    tgid: key.tgid,
                    start_ns: key.start_ns,
                }),
                netns: NetnsId(key.netns),
                role: role(key.accepted != 0),
                address: address(u16::from(key.family), &key.address, key.port)?,
                comm: sum.comm,
                connects: sum.connects,
                failures: sum.failures,
                connect_ns: sum.connect_ns,
                sent_bytes: sum.sent_bytes,
                received_bytes: sum.received_bytes,
                retransmits: sum.retransmits,
                closes: sum.closes,
                name: None,
            })
        })
}

/// One record of the payload ring.
pub fn segment(record: &[u8]) -> Result<Segment<'_>, DecodeError> {
    let short = || DecodeError::Short { len: record.len() };
    let (head, rest) = raw::SegmentRecord::read_from_prefix(record).map_err(|_short| short())?;
    let payload = rest.get(..head.copied as usize).ok_or_else(short)?;
    Ok(Segment {
        time_ns: head.header.time_ns,
        socket: head.cookie,
        owner: owner(&head.owner),
        transport: if head.stream != 0 {
            Transport::Stream
        } else {
            Transport::Datagram
        },
        direction: if head.sent != 0 {
            Direction::Sent
        } else {
            Direction::Received
        },
        position: head.position,
        len: head.len,
        payload,
    })
}

/// A part of what was said on a connection.
pub fn part(record: &[u8]) -> Result<Part<'_>, DecodeError> {
    let short = || DecodeError::Short { len: record.len() };
    let (head, rest) = raw::StreamRecord::read_from_prefix(record).map_err(|_short| short())?;
    let payload = rest.get(..head.copied as usize).ok_or_else(short)?;
    let has = |flag| head.flags & flag != 0;
    let carried_len = usize::from(head.carried_len);
    // The bytes of the array are those of the record.
    let carried_at = core::mem::offset_of!(raw::StreamRecord, carried);
    let carried = record.get(carried_at..carried_at + head.carried.len().min(carried_len));
    let offset = u64::from(head.offset);
    Ok(Part {
        time_ns: head.header.time_ns,
        socket: head.cookie,
        between: between(&head.owner, &head.ends, head.role, head.protocol)?,
        side: if head.direction == head.role {
            Side::Client
        } else {
            Side::Server
        },
        position: head.position.saturating_add(offset),
        // What is not in this part comes in the next, or never.
        len: if has(raw::stream_flag::LAST) {
            head.len.saturating_sub(head.offset)
        } else {
            head.copied.saturating_add(head.skipped)
        },
        starts: head.offset == 0,
        payload,
        begin: has(raw::stream_flag::BEGIN).then(|| Begin {
            from: head.from,
            other_from: head.other_from,
            handover: Handover {
                pending: head.pending,
                asked_ns: head.asked_ns,
                rest: u64::from(head.rest),
                head: head.head != 0,
                unasked: head.reason == exchange::Reason::Unasked as u8,
            },
            carried: carried.unwrap_or_default(),
        }),
    })
}

/// What was counted on a connection.
pub fn counted(record: &[u8]) -> Result<Counted, DecodeError> {
    let record: raw::ExchangesRecord = read(record)?;
    let Between {
        owner,
        netns,
        local,
        remote,
        role,
        protocol,
    } = between(&record.owner, &record.ends, record.role, record.protocol)?;
    Ok(Counted {
        exchanges: Exchanges {
            owner,
            netns,
            role,
            protocol,
            local,
            remote,
            actual: None,
            name: None,
            classes: record.totals.classes.map(u64::from),
            latency: Latency {
                counts: record.totals.buckets.map(u64::from),
                sum_ns: record.totals.latency_ns,
            },
        },
        unanswered: u64::from(record.unanswered),
        ended: (record.flags & raw::stream_flag::END != 0).then(|| end(&record)),
    })
}

fn end(record: &raw::ExchangesRecord) -> End {
    let words = match record.role {
        exchange::SEND => [record.sent, record.received],
        _ => [record.received, record.sent],
    };
    End {
        time_ns: record.header.time_ns,
        socket: record.cookie,
        words: (record.lane == exchange::lane::RECORDS).then_some(words),
        lost: record.lost != 0,
    }
}

fn between(by: &raw::Owner, ends: &raw::Ends, role: u8, protocol: u8) -> Result<Between, DecodeError> {
    Ok(Between {
        owner: owner(by),
        netns: NetnsId(ends.netns),
        local: address(ends.family, &ends.local, ends.local_port)?,
        remote: address(ends.family, &ends.remote, ends.remote_port)?,
        role: match role {
            exchange::SEND => Role::Client,
            _ => Role::Server,
        },
        protocol: match protocol {
            exchange::protocol::HTTP => Protocol::Http,
            exchange::protocol::REDIS => Protocol::Redis,
            exchange::protocol::POSTGRES => Protocol::Postgres,
            exchange::protocol::MEMCACHED => Protocol::Memcached,
            protocol => return Err(DecodeError::UnknownProtocol { protocol }),
        },
    })
}

fn role(accepted: bool) -> Role {
    if accepted { Role::Server } else { Role::Client }
}

fn read<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    match T::read_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(_) => Err(DecodeError::Short { len: bytes.len() }),
    }
}

fn owner(owner: &raw::Owner) -> Owner {
    Owner {
        process: ProcKey {
            tgid: owner.tgid,
            start_ns: owner.start_ns,
        },
        cgroup: CgroupId(owner.cgroup_id),
        comm: owner.comm,
        kernel_thread: owner.flags & raw::owner_flag::KERNEL_THREAD != 0,
    }
}

fn process(record: &[u8]) -> Result<ProcessEvent, DecodeError> {
    let record: raw::ProcessRecord = read(record)?;
    Ok(ProcessEvent {
        time_ns: record.header.time_ns,
        owner: owner(&record.owner),
        parent_tgid: record.parent_tgid,
        exit_code: record.exit_code,
        legacy_hierarchy: record.header.flags & raw::process_flag::LEGACY_HIERARCHY != 0,
        oom_killed: record.header.flags & raw::process_flag::OOM_KILLED != 0,
    })
}

fn cgroup(record: &[u8]) -> Result<CgroupEvent, DecodeError> {
    let record: raw::CgroupRecord = read(record)?;
    // The kernel's count includes the terminating zero; a full buffer means that the path was cut.
    let len = usize::try_from(record.path_len).unwrap_or(0).saturating_sub(1);
    let cut = len + 1 >= raw::CGROUP_PATH_LEN;
    let path = record.path.get(..len).filter(|path| !path.is_empty() && !cut);
    Ok(CgroupEvent {
        cgroup: CgroupId(record.cgroup_id),
        path: path.map(|path| String::from_utf8_lossy(path).into_owned()),
    })
}

fn socket(record: &[u8]) -> Result<SocketEvent, DecodeError> {
    let record: raw::SocketRecord = read(record)?;
    let has = |flag| record.flags & flag != 0;
    let reason = record.reason;
    Ok(SocketEvent {
        time_ns: record.header.time_ns,
        socket: SocketId {
            cookie: record.cookie,
            generation: record.generation,
        },
        owner: owner(&record.owner),
        netns: NetnsId(record.netns),
        local: address(record.family, &record.local, record.local_port)?,
        remote: address(record.family, &record.remote, record.remote_port)?,
        connect_ns: (!has(raw::socket_flag::NO_DURATION)).then_some(record.connect_ns),
        sent_bytes: record.sent_bytes,
        received_bytes: record.received_bytes,
        errno: record.errno,
        retransmits: record.retransmits,
        rtt_us: (record.rtt_us > 0).then_some(record.rtt_us),
        reason: CloseReason::new(reason).ok_or(DecodeError::UnknownReason { reason })?,
        listening: record.stage == raw::stage::LISTENING || record.header.kind == kind::LISTEN_CLOSE,
        role: role(has(raw::socket_flag::ACCEPTED)),
        shown: has(raw::socket_flag::SHOWN),
        old: has(raw::socket_flag::OLD),
        settled: has(raw::socket_flag::SETTLED),
        actual: None,
        name: None,
    })
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
fn address(family: u16, bytes: &[u8; 16], port: u16) -> Result<SocketAddr, DecodeError> {
    let ip = match family {
        raw::AF_INET => {
            let [a, b, c, d, ..] = *bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        raw::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical(),
        family => return Err(DecodeError::UnknownFamily { family }),
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
