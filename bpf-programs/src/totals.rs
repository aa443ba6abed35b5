// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The totals pass: one row per socket that is open. Needs iter/bpf_sk_storage_map (5.9).
use crate::{
    accept::{begin, is_copy},
    kernel::{load, netns},
    maps::{PerSocket, word},
    news::header,
    socket::{describe, mark, never_sent, set_addresses, set_totals},
    tcp,
};
use aya_ebpf::helpers::generated as h;
use core::{ffi::c_void, ptr::addr_of_mut};
use tarsier_common::{Field, SocketRecord, kind, socket_flag, stage};

#[repr(C)]
pub struct Context {
    meta: *const *mut c_void,
    map: *const c_void,
    sk: *const c_void,
    value: *mut PerSocket,
}

/// A connect that has not sent its SYN after this long has failed: nothing in between waits for the network.
const ATTEMPT_NS: u64 = 1_000_000_000;

const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

// aya-ebpf has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
pub unsafe extern "C" fn totals(ctx: *const Context) -> i32 {
    unsafe {
        let (sk, socket) = ((*ctx).sk as *const u8, (*ctx).value);
        if sk.is_null() || socket.is_null() {
            return 0;
        }
        match (*socket).stage {
            stage::ATTEMPT => {
                if h::bpf_ktime_get_ns() - (*socket).begun_ns > ATTEMPT_NS {
                    (*socket).netns = netns(sk);
                    never_sent(socket, 0);
                }
                return 0;
            }
            stage::CONNECTING => {
                let state: u8 = load(sk, Field::SK_STATE);
                if state == SYN_SENT || state == SYN_RECV || state == CLOSE {
                    return 0;
                }
                // The kernel skipped the program at ESTABLISHED, or it runs right now and will find this done.
                (*socket).flags |= socket_flag::NO_DURATION;
                (*socket).stage = stage::ESTABLISHED;
            }
            stage::ESTABLISHED => {
                if load::<u8>(sk, Field::SK_STATE) == CLOSE {
                    // The kernel skipped the program at CLOSE.
                    tcp::ended(sk, socket, tcp::CLOSE);
                    return 0;
                }
            }
            stage::LISTENING => {
                if load::<u8>(sk, Field::SK_STATE) != LISTEN && is_copy(sk, socket) {
                    // Not established yet, or the kernel skipped the program at ESTABLISHED.
                    if load::<u8>(sk, Field::SK_STATE) == SYN_RECV {
                        return 0;
                    }
                    begin(socket);
                }
            }
            _ => return 0,
        }
        if (*socket).cookie == 0 {
            (*socket).cookie = h::bpf_get_socket_cookie(sk as *mut c_void);
        }
        // From here on a close that finds the ring full keeps this socket's totals apart.
        // Once more where somebody else changed another bit meanwhile: a row that is missing reads like a closed socket.
        let Some(before) = show(socket).or_else(|| show(socket)) else {
            return 0;
        };
        row(*(*ctx).meta, sk, socket, before);
    }
    0
}

/// Apart, for the stack's sake.
#[inline(never)]
unsafe fn row(seq: *mut c_void, sk: *const u8, socket: *mut PerSocket, before: u64) {
    unsafe {
        let mut record = SocketRecord::default();
        describe(socket, header::<SocketRecord>(kind::COUNT, 0), &mut record);
        if before & word::SETTLED != 0 {
            record.flags |= socket_flag::SETTLED;
        }
        if before & word::COUNTED != 0 {
            record.flags |= socket_flag::SHOWN;
        }
        set_addresses(sk, &mut record);
        if record.stage == stage::ESTABLISHED {
            set_totals(sk, socket, &mut record);
            doubt_fin(socket, &mut record);
        }
        h::bpf_seq_write(
            seq.cast(),
            addr_of_mut!(record).cast(),
            size_of::<SocketRecord>() as u32,
        );
    }
}

/// Says what stood there before.
#[inline(always)]
unsafe fn show(socket: *mut PerSocket) -> Option<u64> {
    unsafe {
        let settled = addr_of_mut!((*socket).word).read_volatile() & word::SETTLED != 0;
        let before = mark(
            socket,
            if settled {
                word::KNOWN | word::COUNTED
            } else {
                word::KNOWN
            },
        )?;
        // Settled just now: again, or it would be shown as counted before it was.
        if settled == (before & word::SETTLED != 0) {
            Some(before)
        } else {
            None
        }
    }
}

/// A pass holds no socket's lock, and the kernel counts the peer's FIN a moment before it says that it came: a byte that user
/// space could not take back. So the last byte of what is new waits for the next pass, or for the close.
#[inline(always)]
unsafe fn doubt_fin(socket: *mut PerSocket, record: &mut SocketRecord) {
    unsafe {
        let received = record.received_bytes;
        if received > (*socket).received_seen {
            record.received_bytes = received - 1;
        }
        (*socket).received_seen = received;
    }
}
