// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The totals pass: one row per socket that is open. Needs iter/bpf_sk_storage_map (5.9).
use crate::{
    kernel::{load, netns},
    maps::{PerSocket, word},
    news::header,
    socket::{describe, mark, never_sent, set_bytes, set_local},
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
            stage::ESTABLISHED | stage::LISTENING => {}
            _ => return 0,
        }
        // From here on a close that finds the ring full keeps this socket's totals apart.
        // Once more where somebody else changed another bit meanwhile: a row that is missing reads like a closed socket.
        if !mark(socket, word::KNOWN) && !mark(socket, word::KNOWN) {
            return 0;
        }
        let mut record = describe(socket, header::<SocketRecord>(kind::COUNT, 0));
        set_local(sk, &mut record);
        if record.stage == stage::ESTABLISHED {
            set_bytes(sk, &mut record);
        }
        h::bpf_seq_write(
            *(*ctx).meta as *mut _,
            addr_of_mut!(record).cast(),
            size_of::<SocketRecord>() as u32,
        );
    }
    0
}
