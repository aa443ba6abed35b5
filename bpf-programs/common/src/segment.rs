//! Records of the payload ring: what processes say to each other, where somebody has to read it.
use crate::{Header, Owner};
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
