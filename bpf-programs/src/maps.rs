// SPDX-License-Identifier: MIT OR GPL-2.0-only
use crate::segment::way;
use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use core::{ffi::c_void, mem::offset_of, ptr::null};
use tarsier_common::{
    AddressKey, DIRECT_ENTRIES, ENDED_EXCHANGES as ENDED_ENTRIES, EndedKey, Ends, ExchangesRecord, FileRecord,
    FilesPass, HOLDERS, Header, Listener, Owner, Row, SEGMENT_MAX, SPILLED_EXCHANGES as SPILLED_ENTRIES, SegmentRecord,
    SocketRecord, SpillKey, StreamRecord, Sum, SumKey, Switches, TALKER_SLOTS, VERDICTS as VERDICT_ENTRIES, Verdict,
    WATCHED as WATCHED_ENTRIES, YOUNG_SLOTS,
    exchange::{Exchange, HEAD_BYTES, Head, Totals},
    kind,
};

/// What is known of a socket: in a slot of `YOUNG`, or in its own storage, which nothing evicts and the kernel frees with
/// the socket.
#[repr(C)]
pub struct PerSocket {
    /// Bits of `word`, changed atomically: it decides between a close and a totals pass that meet.
    pub word: u64,
    pub cookie: u64,
    pub owner: Owner,
    /// When the attempt began, `CLOCK_MONOTONIC`.
    pub begun_ns: u64,
    pub connect_ns: u64,
    pub remote: [u8; 16],
    pub generation: u32,
    pub remote_port: u16,
    pub family: u16,
    pub netns: u32,
    pub stage: u8,
    pub flags: u8,
    pub padding: u16,
    /// Bytes that it had moved when an inventory found it.
    pub sent_before: u64,
    pub received_before: u64,
    /// Segments that it had sent again by then.
    pub retransmits_before: u32,
    pub padding2: u32,
    /// What the last totals pass read.
    pub received_seen: u64,
    /// The socket's address, in a slot.
    pub sk: u64,
}

impl PerSocket {
    #[inline(always)]
    pub fn new() -> Self {
        // Integers and byte arrays.
        unsafe { core::mem::zeroed() }
    }
}

pub mod word {
    /// User space may know this socket: news of it was sent, or a totals pass has shown it.
    pub const KNOWN: u64 = 1;
    /// Its last totals have been handed over; no pass may show it again.
    pub const CLOSED: u64 = 2;
    /// The owner is known.
    pub const SETTLED: u64 = 4;
    /// A pass has shown it with that owner, who has it in his counts.
    pub const COUNTED: u64 = 8;
    /// Of a slot: what is known has moved to the socket's storage.
    pub const MOVED: u64 = 16;
    pub const BITS: u64 = 0xff;
    /// Then the lower byte of the generation: a pass must not take one life of a socket for the next.
    pub const GENERATION: u64 = 0xff00;
    pub const GENERATION_SHIFT: u32 = 8;
    /// The rest is the cookie of the socket that has the slot; zero of an empty one, and of storage.
    pub const COOKIE_SHIFT: u32 = 16;
}

/// What is remembered of a socket whose words are read, for as long as it is there.
#[repr(C)]
pub struct Talk {
    /// Bytes that have gone each way, of a stream.
    pub sent: u64,
    pub received: u64,
    /// 1: its owner has asked a name server.
    pub asked: u64,
    pub vector: Vector,
}

/// A call that moves several messages.
#[repr(C)]
pub struct Vector {
    pub thread: u64,
    pub headers: u64,
    /// What the first of them began with.
    pub begins: u64,
    /// Which of them was the last.
    pub index: u64,
}

/// What is remembered of a TCP socket on which requests may be made. What a segment needs is in the first three cache lines
/// of 64 bytes, where slots begin with one, and in each of them is something that is read before the first locked instruction:
/// what that waits for comes at once, instead of one after the other.
#[repr(C)]
pub struct Conversation {
    pub cookie: u64,
    /// The socket itself. Zero until the rest is there.
    pub sk: u64,
    /// A hook is at work on `exchange`.
    pub busy: u64,
    /// Bytes that have gone each way, and up to where `exchange` knows them.
    pub sent: u64,
    pub received: u64,
    pub sent_known: u64,
    pub received_known: u64,
    /// `used_by_somebody` has nothing to do for it any more.
    pub settled: u8,
    /// The kernel's own, or the agent's: nobody wants to know what they say.
    pub nobodys: u8,
    pub padding: [u8; 2],
    /// The descriptor last proved to be this socket, plus one.
    pub fd: u32,
    pub exchange: Exchange,
    /// That of `Switches` when it was last looked at.
    pub epoch: u32,
    /// Another hook found it busy, and what it had went to user space.
    pub contended: u32,
    /// See `telling`: it decides between the end and a pass that meet.
    pub telling: u64,
    /// 1: the ring had no room for some of what was said.
    pub lost: u32,
    pub padding2: [u8; 4],
    pub owner: Owner,
    pub ends: Ends,
    /// What of it user space was told.
    pub shown: Totals,
    pub vector: Vector,
    pub padding3: [u64; 5],
}
const _: () = assert!(offset_of!(Conversation, exchange) == 64 && offset_of!(Conversation, epoch) + 4 <= 192);
const _: () = assert!(size_of::<Conversation>().is_multiple_of(64));

/// Bits; above them the cookie, where it is a slot's: a pass may meet one that is given back and taken again.
pub mod telling {
    /// A pass is at it.
    pub const PASS: u64 = 1;
    pub const CLOSED: u64 = 2;
    pub const BITS: u64 = PASS | CLOSED;
    pub const COOKIE_SHIFT: u32 = 2;
}

/// Written out because `btf_maps::SkStorage` takes its sockets from a `SockAddrContext` only. Type 24 is sk_storage;
/// BPF_F_NO_PREALLOC (1) is obligatory.
#[repr(C)]
pub struct SkStorage<T> {
    r#type: *const [i32; 24],
    key: *const i32,
    value: *const T,
    map_flags: *const [i32; 1],
    max_entries: *const [i32; 0],
}
// Only its address and its type information are ever used.
unsafe impl<T> Sync for SkStorage<T> {}

impl<T> SkStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: null(),
            key: null(),
            value: null(),
            map_flags: null(),
            max_entries: null(),
        }
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".maps")]
pub static SOCKETS: SkStorage<PerSocket> = SkStorage::new();

#[unsafe(no_mangle)]
#[unsafe(link_section = ".maps")]
pub static TALKS: SkStorage<Talk> = SkStorage::new();

#[unsafe(no_mangle)]
#[unsafe(link_section = ".maps")]
pub static CONVERSATIONS: SkStorage<Conversation> = SkStorage::new();

/// What user space may map begins with a page: nobody does, but so slots begin with a cache line.
const MMAPABLE: usize = 1 << 10;

/// By cookie: see `talkers`.
#[btf_map]
pub static TALKERS: Array<Conversation, { TALKER_SLOTS as usize }, MMAPABLE> = Array::new();

pub fn address<T>(map: &SkStorage<T>) -> *mut c_void {
    (map as *const SkStorage<T>).cast_mut().cast()
}

/// By cookie.
#[btf_map]
pub static YOUNG: Array<PerSocket, { YOUNG_SLOTS as usize }> = Array::new();

/// A row per kind, a column per outcome.
#[btf_map]
pub static COUNTERS: PerCpuArray<Row, { kind::COUNT as usize }> = PerCpuArray::new();

/// Processes, cgroups, connections, listens. The loader sets its size.
#[btf_map]
pub static NEWS: RingBuf<Header, { 1 << 20 }> = RingBuf::new();

const NO_PREALLOC: usize = 1;

/// Last totals of sockets that user space may know, for which the ring had no room.
#[btf_map]
pub static SPILLED_SOCKETS: HashMap<SpillKey, SocketRecord, 65536, NO_PREALLOC> = HashMap::new();

/// The same for sockets that it cannot know, added up: bounded by owners and destinations, not by connections.
#[btf_map]
pub static SPILLED_SUMS: HashMap<SumKey, Sum, 65536, NO_PREALLOC> = HashMap::new();

/// What a sum begins with: it would take a fifth of a stack.
#[btf_map]
pub static NOTHING: Array<Sum, 1> = Array::new();

/// Which entries of `SPILLED_SUMS`, and of `ENDED_EXCHANGES`, are added to.
#[btf_map]
pub static EPOCH: Array<u32, 1> = Array::new();

/// Who listens where.
#[btf_map]
pub static LISTENERS: HashMap<AddressKey, Listener, { HOLDERS as usize }, NO_PREALLOC> = HashMap::new();

/// Destinations that nothing on the way gives another address. Connections to any other come one by one at their ends, for
/// user space to ask where they went.
#[btf_map]
pub static DIRECT: HashMap<AddressKey, u8, { DIRECT_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// Sockets of MPTCP that an inventory has found, by their addresses, and whose they are.
#[btf_map]
pub static PARENTS: HashMap<u64, Owner, { HOLDERS as usize }, NO_PREALLOC> = HashMap::new();

/// How far a pass over the open files has come.
#[btf_map]
pub static FILES_PASS: Array<FilesPass, 1> = Array::new();

/// Longest path that is asked for: no system call takes a longer one.
pub const PATH_MAX: usize = 4096;

/// Where a row is put together: the stack is too small for a path.
#[repr(C)]
pub struct FileDraft {
    pub record: FileRecord,
    pub path: [u8; PATH_MAX],
}

#[btf_map]
pub static FILE_DRAFT: PerCpuArray<FileDraft, 1> = PerCpuArray::new();

/// What is said. The loader sets its size.
#[btf_map]
pub static PAYLOAD: RingBuf<Header, { 1 << 20 }> = RingBuf::new();

/// Where a record of what is said is put together. Twice the room: the verifier knows the end of each copy by itself only.
#[repr(C)]
pub struct SegmentDraft {
    pub record: SegmentRecord,
    pub payload: [u8; 2 * (SEGMENT_MAX + 1)],
}

/// One for each program.
#[btf_map]
pub static SEGMENT_DRAFT: PerCpuArray<SegmentDraft, { way::COUNT }> = PerCpuArray::new();

/// Twice the room, as above.
#[repr(C)]
pub struct StreamDraft {
    pub record: StreamRecord,
    pub payload: [u8; 2 * (SEGMENT_MAX + 1)],
    /// Numbers of which the verifier is to know nothing.
    pub note: u32,
    /// How far the copying has come: in which piece, and where in it.
    pub piece: u32,
    pub within: u64,
    /// In how many rounds, and how many records were full.
    pub rounds: u32,
    pub parts: u32,
    /// 1: the ring had no room for some of it.
    pub lost: u64,
}

#[btf_map]
pub static STREAM_DRAFT: PerCpuArray<StreamDraft, { way::COUNT }> = PerCpuArray::new();

/// The begin of a segment, for the matcher. Twice the room, as above.
#[repr(C)]
pub struct HeadDraft {
    pub head: Head,
    room: [u8; HEAD_BYTES],
}

#[btf_map]
pub static HEADS: PerCpuArray<HeadDraft, { way::COUNT }> = PerCpuArray::new();

#[btf_map]
pub static SWITCHES: Array<Switches, 1> = Array::new();

/// Sockets of which user space wants nothing more, or not all, by cookie.
#[btf_map]
pub static VERDICTS: HashMap<u64, Verdict, { VERDICT_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// Processes whose requests somebody wants to see, by tgid.
#[btf_map]
pub static WATCHED: HashMap<u32, u32, { WATCHED_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// Last totals of connections for which the ring had no room, by cookie.
#[btf_map]
pub static SPILLED_EXCHANGES: HashMap<u64, ExchangesRecord, { SPILLED_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// What was counted on connections that have ended, for which nobody waits: added up, so bounded by processes and
/// destinations.
#[btf_map]
pub static ENDED_EXCHANGES: HashMap<EndedKey, ExchangesRecord, { ENDED_ENTRIES as usize }, NO_PREALLOC> =
    HashMap::new();

/// Where the totals of a socket are put together.
#[repr(C)]
pub struct TotalsDraft {
    pub record: ExchangesRecord,
    pub now: Totals,
}

/// One for the pass, and one for the ends that may come meanwhile.
#[btf_map]
pub static TOTALS_DRAFT: PerCpuArray<TotalsDraft, 2> = PerCpuArray::new();
