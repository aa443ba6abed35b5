//! Records of the payload ring: what processes say to each other, where somebody has to read it.
use crate::{Header, Owner, exchange::Totals};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a process has sent or received at once on one socket. As much of it as was copied follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SegmentRecord {
    pub header: Header,
    /// Who has sent or received it.
    pub owner: Owner,
    pub cookie: u64,
    /// Of a stream: what went that way before, since the programs have first seen the socket.
    pub position: u64,
    /// All bytes of it.
    pub len: u32,
    /// The first of them, behind this.
    pub copied: u32,
    /// 1: a part of a stream (TCP); 0: a datagram (UDP).
    pub stream: u8,
    /// 1: sent; 0: received.
    pub sent: u8,
    pub padding: [u8; 6],
}
const _: () = assert!(size_of::<SegmentRecord>() == 88);

/// Between whom.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Ends {
    /// IPv4 in the first four bytes.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    /// Host order.
    pub local_port: u16,
    pub remote_port: u16,
    pub family: u16,
    pub padding: [u8; 2],
    pub netns: u32,
    pub padding2: [u8; 4],
}
const _: () = assert!(size_of::<Ends>() == 48);

/// Bits of `StreamRecord::flags`, and of `ExchangesRecord::flags`.
pub mod stream_flag {
    /// The first one of this socket: `pending`, `rest` and `carried` say where its parsing begins.
    pub const BEGIN: u8 = 1;
    /// It has ended.
    pub const END: u8 = 2;
    /// No more of this segment follows, even if it was longer.
    pub const LAST: u8 = 4;
}

/// A part of a stream, for user space to make sense of. As much of it as was copied follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct StreamRecord {
    pub header: Header,
    /// Who uses the socket.
    pub owner: Owner,
    pub ends: Ends,
    pub cookie: u64,
    /// Bytes that went this way before, since the programs have first seen the socket.
    pub position: u64,
    /// Where the parsing of this way begins, and that of the other one. Of `BEGIN` only.
    pub from: u64,
    pub other_from: u64,
    /// All bytes of it.
    pub len: u32,
    /// How many bytes of it are behind this, and how many of it came in records before this one.
    pub copied: u32,
    pub offset: u32,
    /// Requests without a reply, and when they were made. Of `BEGIN` only, as what follows.
    pub pending: u32,
    pub asked_ns: u64,
    /// Bytes of the last request still to come.
    pub rest: u32,
    /// See `exchange::protocol`.
    pub protocol: u8,
    /// The direction that requests go: `exchange::SEND` or `RECEIVE`.
    pub role: u8,
    /// The direction of this.
    pub direction: u8,
    pub flags: u8,
    /// The first bytes of a request that came before.
    pub carried: [u8; 8],
    pub carried_len: u8,
    /// Of `exchange::Reason`: why it is here.
    pub reason: u8,
    /// 1: what waits for a reply is HTTP's HEAD.
    pub head: u8,
    pub padding: [u8; 1],
    /// Bytes behind what is copied that no record has.
    pub skipped: u32,
}
const _: () = assert!(size_of::<StreamRecord>() == 184);

/// What was counted on a socket since the last time that somebody was told: a row of a pass, or at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ExchangesRecord {
    pub header: Header,
    pub owner: Owner,
    pub ends: Ends,
    pub cookie: u64,
    pub totals: Totals,
    /// Bytes that have gone each way since the programs have first seen the socket.
    pub sent: u64,
    pub received: u64,
    /// Requests that got no reply. At its end only.
    pub unanswered: u32,
    /// 1: the ring had no room for some of what was said.
    pub lost: u32,
    pub protocol: u8,
    pub role: u8,
    pub flags: u8,
    pub lane: u8,
    pub padding: [u8; 4],
}
const _: () = assert!(size_of::<ExchangesRecord>() == 224);

/// What the programs are to do, in `SWITCHES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Switches {
    /// Bit by `exchange::protocol`: those that are read.
    pub protocols: u32,
    /// Those of them that are counted in the kernel where they can be.
    pub countable: u32,
    /// Raised with each change: what was given up is then looked at again.
    pub epoch: u32,
    /// Some processes are watched: see `WATCHED`.
    pub watching: u32,
}

/// What user space wants no more of a socket, in `VERDICTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Verdict {
    /// 1: of anything that is said there.
    pub over: u32,
    pub padding: u32,
    /// Of what is sent up to that position, and of what is received.
    pub sent: u64,
    pub received: u64,
}

/// At most that many records are made of one segment.
pub const PARTS: u32 = 32;

/// Key of `ENDED_EXCHANGES`: connections that have ended, by process and destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EndedKey {
    pub start_ns: u64,
    pub tgid: u32,
    pub netns: u32,
    /// Of the remote end, if that is the server; otherwise zero, as port and family.
    pub address: [u8; 16],
    pub port: u16,
    pub family: u16,
    pub protocol: u8,
    pub role: u8,
    pub padding: [u8; 2],
    /// As that of `SumKey`.
    pub epoch: u32,
    pub padding2: [u8; 4],
}
const _: () = assert!(size_of::<EndedKey>() == 48);

/// Entries of `VERDICTS`, of `SPILLED_EXCHANGES`, of `ENDED_EXCHANGES`, of `WATCHED`.
pub const VERDICTS: u32 = 16_384;
pub const ENDED_EXCHANGES: u32 = 16_384;
pub const SPILLED_EXCHANGES: u32 = 16_384;
pub const WATCHED: u32 = 16_384;

/// At most that much of a segment is copied. One less than a power of two.
pub const SEGMENT_MAX: usize = 4095;

/// How many ports of name servers the programs can be told.
pub const DNS_PORTS: usize = 4;

/// Indexes into the table of system calls, once for sending and once for receiving.
pub mod call {
    /// write, read.
    pub const PLAIN: usize = 0;
    /// sendto, recvfrom.
    pub const ADDRESSED: usize = 1;
    /// writev, readv.
    pub const VECTOR: usize = 2;
    /// sendmsg, recvmsg.
    pub const MESSAGE: usize = 3;
    /// sendmmsg, recvmmsg.
    pub const MESSAGES: usize = 4;
    pub const COUNT: usize = 5;
}

/// Indexes into the table of where a system call's registers are.
pub mod register {
    pub const NUMBER: usize = 0;
    /// Its first arguments.
    pub const FIRST: usize = 1;
    pub const SECOND: usize = 2;
    pub const THIRD: usize = 3;
    pub const FIFTH: usize = 4;
    pub const COUNT: usize = 5;
}

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya reads map values as plain bytes")]
    // SAFETY: integers and byte arrays without padding, as zerocopy's derives check.
    unsafe impl aya::Pod for super::Switches {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Verdict {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::EndedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ExchangesRecord {}
}
