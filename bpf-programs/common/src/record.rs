//! Records of the news ring, of the totals pass and of the spill maps.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Begins every record of the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Header {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    pub kind: u16,
    pub flags: u16,
    /// Bytes of the whole record.
    pub len: u32,
}
const _: () = assert!(size_of::<Header>() == 16);

/// Longest name of a task, the terminating zero included.
pub const COMM_LEN: usize = 16;

/// Whose doing it was, as the kernel knew at that moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Owner {
    /// `start_boottime` of the group leader, `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Of the unified hierarchy. The root's id where the process is placed in v1 hierarchies only.
    pub cgroup_id: u64,
    pub tgid: u32,
    /// Bits of `owner_flag`.
    pub flags: u32,
    /// The name of the group leader.
    pub comm: [u8; COMM_LEN],
}
const _: () = assert!(size_of::<Owner>() == 40);

/// Bits of `Owner::flags`.
pub mod owner_flag {
    pub const KERNEL_THREAD: u32 = 1;
}

/// Bits of `Header::flags` in process records.
pub mod process_flag {
    /// `CGROUP_MOVE`: the hierarchy is a v1 one, `owner.cgroup_id` did not change.
    pub const LEGACY_HIERARCHY: u16 = 1;
    /// `EXIT`: the kernel killed it because memory had run out.
    pub const OOM_KILLED: u16 = 2;
}

/// `FORK`, `EXEC`, `EXIT` and `CGROUP_MOVE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ProcessRecord {
    pub header: Header,
    pub owner: Owner,
    pub parent_tgid: u32,
    /// As in `wait(2)`; `EXIT` only.
    pub exit_code: i32,
}
const _: () = assert!(size_of::<ProcessRecord>() == 64);

/// Longest cgroup path that is carried, the terminating zero included.
pub const CGROUP_PATH_LEN: usize = 256;

/// `CGROUP_MADE` and `CGROUP_GONE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct CgroupRecord {
    pub header: Header,
    pub cgroup_id: u64,
    /// Bytes of `path`, the terminating zero included, as the kernel's string helper answered; negative: an error.
    pub path_len: i64,
    pub path: [u8; CGROUP_PATH_LEN],
}
const _: () = assert!(size_of::<CgroupRecord>() == 32 + CGROUP_PATH_LEN);

/// Where a socket stands.
pub mod stage {
    /// Connect was called, no SYN has been sent.
    pub const ATTEMPT: u8 = 1;
    pub const CONNECTING: u8 = 2;
    pub const ESTABLISHED: u8 = 3;
    pub const LISTENING: u8 = 4;
    /// Its last totals have been handed over.
    pub const ENDED: u8 = 5;
}

/// Bits of `SocketRecord::flags`.
pub mod socket_flag {
    /// A pass has shown it before, settled.
    pub const SHOWN: u8 = 1;
    /// How long the connect took is not known: the kernel skipped the program that would have measured it.
    pub const NO_DURATION: u8 = 2;
    /// The other side connected.
    pub const ACCEPTED: u8 = 4;
    /// It began before anybody looked: its bytes are counted from then on, its beginning never is.
    pub const OLD: u8 = 8;
    /// The owner is known. Until then it is the listener's, and may be corrected.
    pub const SETTLED: u8 = 16;
}

/// What ended a connection.
pub mod close_reason {
    /// This side sent the first FIN, or reset it.
    pub const LOCAL: u8 = 0;
    /// The other side sent the first FIN.
    pub const PEER: u8 = 1;
    /// A reset came, or the administrator killed it.
    pub const RESET: u8 = 2;
    /// The other side did not answer any more.
    pub const TIMEOUT: u8 = 3;
    pub const COUNT: usize = 4;
}

/// As they appear in the label `reason`, indexed by reason.
pub const CLOSE_REASON_NAMES: [&str; close_reason::COUNT] = ["local", "peer", "reset", "timeout"];

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// One socket: the news `CONNECT_FAILED`, `CLOSE`, `ACCEPTED_CLOSE`, `LISTEN`, `LISTEN_CLOSE`, and each row of
/// the totals pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SocketRecord {
    pub header: Header,
    pub cookie: u64,
    pub owner: Owner,
    /// Counts the connections that one `struct sock` has carried.
    pub generation: u32,
    pub netns: u32,
    /// From SYN to established.
    pub connect_ns: u64,
    /// Payload bytes, each counted once however often it was sent.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// IPv4 in the first four bytes.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    /// Host order.
    pub local_port: u16,
    pub remote_port: u16,
    pub family: u16,
    pub stage: u8,
    pub flags: u8,
    /// Why a connect failed; 0 where the kernel does not tell (given up by the caller, or refused before the SYN).
    pub errno: i32,
    /// Segments that were sent again, the SYN among them.
    pub retransmits: u32,
    /// Smoothed round-trip time in microseconds; 0: not measured yet.
    pub rtt_us: u32,
    /// One of `close_reason`; in `CLOSE` and `ACCEPTED_CLOSE` only.
    pub reason: u8,
    pub padding: [u8; 3],
}
const _: () = assert!(size_of::<SocketRecord>() == 152);

/// Key of `SPILLED_SOCKETS`: sockets that user space may know, whose close found no room in the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SpillKey {
    pub cookie: u64,
    pub generation: u32,
    pub padding: u32,
}

/// Key of `SPILLED_SUMS`: sockets that user space cannot know, added up by owner and destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct SumKey {
    pub cgroup_id: u64,
    /// Zero where the cgroup tells the owner.
    pub start_ns: u64,
    pub tgid: u32,
    pub netns: u32,
    /// Of the remote end; of the local one where the other side connected.
    pub address: [u8; 16],
    pub port: u16,
    pub family: u8,
    /// 1: the other side connected.
    pub accepted: u8,
    /// The value of `EPOCH` at the time. User space raises it and then takes what older ones hold: nobody adds to them.
    pub epoch: u32,
}
const _: () = assert!(size_of::<SumKey>() == 48);

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Sum {
    /// Or accepts.
    pub connects: u64,
    pub failures: u64,
    pub connect_ns: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub retransmits: u64,
    /// By `close_reason`.
    pub closes: [u64; close_reason::COUNT],
    pub comm: [u8; COMM_LEN],
}

/// Connections that have begun a moment ago, in `YOUNG`. Sockets are numbered one after the other, so few of those that
/// live at a time meet in one slot.
pub const YOUNG_SLOTS: u32 = 4096;

/// Connections of which is remembered what is said on them, in `TALKERS`. One that finds its slot taken has storage of its
/// own, which is dearer.
pub const TALKER_SLOTS: u32 = 4096;

/// Key of `LISTENERS`: who listens where. Tells whose an accepted connection is until it is used, and the role of those that
/// began before anybody looked. And of `DIRECT`: where somebody connects to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct AddressKey {
    pub netns: u32,
    /// Host order. 0: somebody there holds a socket of MPTCP.
    pub port: u16,
    /// Of the listening socket: those that it accepts have the same.
    pub family: u16,
    /// Zero: any.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<AddressKey>() == 24);

/// Entries of `DIRECT`.
pub const DIRECT_ENTRIES: u32 = 16384;

/// Entries of `LISTENERS`, and of `PARENTS`.
pub const HOLDERS: u32 = 16384;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Listener {
    pub owner: Owner,
    /// Of the listening socket.
    pub cookie: u64,
    /// When it began to listen or was last found to, `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
}

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya reads map values as plain bytes")]
    // SAFETY: integers and byte arrays without padding, as zerocopy's derives check.
    unsafe impl aya::Pod for super::SpillKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SumKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sum {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SocketRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::AddressKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Owner {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Listener {}
}
