// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What was there before the programs: every socket that a process holds, in every network namespace. Two passes: the
//! listens first, for they tell which of two ends connected. Needs iter/task_file (5.8) and bpf_sock_from_file (5.11).
use crate::{
    kernel::{is_kernels, load, netns, owner},
    listeners::{self, listener},
    maps::{PARENTS, PerSocket, SOCKETS, address, word},
    mptcp::{self, IPPROTO_MPTCP},
    socket::{CREATE, bytes, find, local_address, set_remote},
    tcp::{CLOSE, IPPROTO_TCP, LISTEN, SYN_RECV, SYN_SENT},
    young,
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    ptr::{addr_of_mut, null},
};
use tarsier_common::{AF_INET, AF_INET6, AddressKey, Field, Owner, socket_flag, stage};

#[repr(C)]
pub struct Context {
    meta: *const *mut aya_ebpf::bindings::seq_file,
    pub task: *const u8,
    descriptor: u64,
    pub file: *mut aya_ebpf::bindings::file,
}

impl Context {
    /// Where rows are written to.
    #[inline(always)]
    pub unsafe fn sequence(&self) -> *mut aya_ebpf::bindings::seq_file {
        unsafe { *self.meta }
    }
}

// aya-ebpf has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub unsafe extern "C" fn inventory_listeners(ctx: *const Context) -> i32 {
    unsafe {
        let (task, sk) = tcp_socket(ctx);
        if sk.is_null() {
            return 0;
        }
        if load::<u16>(sk, Field::SK_PROTOCOL) == IPPROTO_MPTCP {
            parent(sk, task);
            return 0;
        }
        if i32::from(load::<u8>(sk, Field::SK_STATE)) != LISTEN {
            return 0;
        }
        let mut socket = find(sk);
        if socket.is_null() {
            adopt(sk, task, false);
            socket = find(sk);
            if socket.is_null() {
                return 0;
            }
        } else {
            held_by(socket, task);
        }
        listens(sk, (*socket).netns, (*socket).family, (*socket).owner, (*socket).cookie);
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub unsafe extern "C" fn inventory_connections(ctx: *const Context) -> i32 {
    unsafe {
        let (task, sk) = tcp_socket(ctx);
        if sk.is_null() || load::<u16>(sk, Field::SK_PROTOCOL) != IPPROTO_TCP {
            return 0;
        }
        let socket = find(sk);
        if socket.is_null() {
            adopt(sk, task, false);
            return 0;
        }
        if (*socket).word & word::SETTLED == 0 {
            if (*socket).stage == stage::ESTABLISHED {
                // Until somebody uses it.
                later_holder(socket, task);
            }
        } else if (*socket).stage == stage::ESTABLISHED && (*socket).word & word::KNOWN == 0 {
            held_by(socket, task);
        }
        young::grow_up(sk);
    }
    0
}

#[inline(never)]
unsafe fn listens(sk: *const u8, netns: u32, family: u16, owner: Owner, cookie: u64) {
    unsafe {
        let key = AddressKey {
            netns,
            port: load(sk, Field::SK_PORT),
            family,
            address: local_address::<false>(sk, family),
        };
        listeners::insert(key, owner, cookie);
    }
}

/// A parent of MPTCP: its connections are found in its namespace.
#[inline(always)]
unsafe fn parent(sk: *const u8, task: *const u8) {
    unsafe {
        let mut holder = Owner::default();
        owner(task, &mut holder);
        let key = AddressKey {
            netns: netns::<false>(sk),
            ..AddressKey::default()
        };
        listeners::insert(key, holder, 0);
        let _ = PARENTS.insert(sk as u64, holder, 0);
    }
}

/// The process and its socket of TCP or MPTCP, or null.
#[inline(always)]
unsafe fn tcp_socket(ctx: *const Context) -> (*const u8, *const u8) {
    const NONE: (*const u8, *const u8) = (null(), null());
    unsafe {
        let (task, file) = ((*ctx).task, (*ctx).file);
        if task.is_null() || file.is_null() {
            return NONE;
        }
        let socket = h::bpf_sock_from_file(file) as *const u8;
        if socket.is_null() {
            return NONE;
        }
        let sk: *const u8 = load(socket, Field::SOCKET_SK);
        if sk.is_null() {
            return NONE;
        }
        let family: u16 = load(sk, Field::SK_FAMILY);
        let protocol: u16 = load(sk, Field::SK_PROTOCOL);
        if (family != AF_INET && family != AF_INET6) || (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP) {
            return NONE;
        }
        (task, sk)
    }
}

/// Of several holders of what began before anybody looked, the one that started last: who passes a socket on is older
/// than who gets it.
#[inline(always)]
unsafe fn held_by(socket: *mut PerSocket, task: *const u8) {
    unsafe {
        if (*socket).flags & socket_flag::OLD != 0 {
            later_holder(socket, task);
        }
    }
}

#[inline(always)]
unsafe fn later_holder(socket: *mut PerSocket, task: *const u8) {
    unsafe {
        let leader: *const u8 = load(task, Field::TASK_LEADER);
        if !leader.is_null() && load::<u64>(leader, Field::TASK_START) > (*socket).owner.start_ns {
            owner(task, &mut *addr_of_mut!((*socket).owner));
        }
    }
}

/// Storage for a socket that has none, because it is older than the programs. In one step with what it contains: the
/// other programs may meet it at any time. Whose an accepted one is says who uses it, not who holds it.
#[inline(always)]
pub unsafe fn adopt(sk: *const u8, task: *const u8, uses: bool) {
    unsafe {
        let mut new = PerSocket::new();
        owner(task, &mut new.owner);
        new.word = word::SETTLED;
        adopt_as(sk, new, uses);
    }
}

#[inline(always)]
unsafe fn adopt_as(sk: *const u8, mut new: PerSocket, final_owner: bool) {
    unsafe {
        let state = i32::from(load::<u8>(sk, Field::SK_STATE));
        match state {
            LISTEN => new.stage = stage::LISTENING,
            // Its end is still to come, and with it the count.
            SYN_SENT => new.stage = stage::CONNECTING,
            CLOSE | SYN_RECV => return,
            _ => new.stage = stage::ESTABLISHED,
        }
        if is_kernels(sk) {
            return;
        }
        new.flags = if state == SYN_SENT {
            socket_flag::NO_DURATION
        } else {
            socket_flag::OLD
        };
        new.generation = 1;
        new.cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        new.family = load(sk, Field::SK_FAMILY);
        new.netns = netns::<false>(sk);
        new.begun_ns = h::bpf_ktime_get_ns();
        if new.stage == stage::ESTABLISHED {
            let tcp = h::bpf_skc_to_tcp_sock(sk as *mut c_void) as *const u8;
            if tcp.is_null() {
                return;
            }
            if listener(sk, new.netns, new.family).is_some() || was_accepted(tcp, state) {
                new.flags |= socket_flag::ACCEPTED;
                if !final_owner {
                    new.word = 0;
                }
            }
            new.retransmits_before = load(tcp, Field::TCP_RETRANSMITS);
            (new.sent_before, new.received_before) =
                mptcp::bytes::<false>(tcp).unwrap_or_else(|| bytes::<false>(sk, tcp));
        }
        if new.flags & socket_flag::ACCEPTED == 0 {
            set_remote::<false>(sk, new.family, &mut new.remote, &mut new.remote_port);
        }
        let socket = h::bpf_sk_storage_get(address(&SOCKETS), sk as *mut c_void, addr_of_mut!(new).cast(), CREATE)
            as *mut PerSocket;
        // It ended while nobody could be told.
        if !socket.is_null() && i32::from(load::<u8>(sk, Field::SK_STATE)) == CLOSE {
            (*socket).word = word::CLOSED;
            (*socket).stage = stage::ENDED;
        }
    }
}

/// For those whose listener is gone: the side that opened has had its SYN acknowledged, which the kernel counts as a byte,
/// and the other side has not.
#[inline(always)]
unsafe fn was_accepted(tcp: *const u8, state: i32) -> bool {
    unsafe {
        let sent = load::<u64>(tcp, Field::TCP_SENT) - load::<u64>(tcp, Field::TCP_RETRANS);
        let under_way = load::<u32>(tcp, Field::TCP_NEXT) - load::<u32>(tcp, Field::TCP_UNACKED);
        let passed = load::<u64>(tcp, Field::TCP_ACKED) + u64::from(under_way);
        let fin = matches!(state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING) as u64;
        passed - sent == fin
    }
}

const FIN_WAIT1: i32 = 4;
const FIN_WAIT2: i32 = 5;
const LAST_ACK: i32 = 9;
const CLOSING: i32 = 11;

#[repr(C)]
pub struct TcpContext {
    meta: *const c_void,
    sk: *mut c_void,
}

/// Connections without a descriptor, of the namespace from which this is read: those that wait to be accepted belong to
/// whoever listens, those of MPTCP to whoever holds their parent. Needs iter/tcp (5.9).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub unsafe extern "C" fn inventory_waiting(ctx: *const TcpContext) -> i32 {
    unsafe {
        let common = (*ctx).sk;
        if common.is_null() {
            return 0;
        }
        // Null for requests, and for what only waits for late segments.
        let sk = h::bpf_skc_to_tcp_sock(common) as *const u8;
        if sk.is_null() {
            return 0;
        }
        let known = find(sk);
        if !known.is_null() {
            // No descriptor leads to a listen of MPTCP: this alone says that it is still there.
            if (*known).stage == stage::LISTENING {
                listens(sk, (*known).netns, (*known).family, (*known).owner, (*known).cookie);
            }
            return 0;
        }
        let (netns, family): (u32, u16) = (netns::<false>(sk), load(sk, Field::SK_FAMILY));
        let mut new = PerSocket::new();
        // Its user sends and receives on the parent.
        let holder = mptcp::holder(sk);
        let subflow = holder.is_some();
        if let Some(holder) = holder {
            new.owner = holder;
            new.word = word::SETTLED;
            if i32::from(load::<u8>(sk, Field::SK_STATE)) == LISTEN {
                listens(
                    sk,
                    netns,
                    family,
                    new.owner,
                    h::bpf_get_socket_cookie(sk as *mut c_void),
                );
            }
        } else if let Some(listener) = listener(sk, netns, family) {
            new.owner = listener.owner;
        } else {
            return 0;
        }
        adopt_as(sk, new, subflow);
    }
    0
}
