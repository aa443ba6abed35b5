// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! MPTCP: a process holds and uses a parent socket; what goes over the wire is TCP, on sockets of the kernel's own that no
//! descriptor leads to. Connections are counted on the first of these, their bytes where the kernel counts payload once
//! (since 6.5), for a subflow counts what is sent again on it as new.
use crate::{
    kernel::{ABSENT, load_at},
    maps::PARENTS,
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    ptr::{addr_of, addr_of_mut},
};
use tarsier_common::{Owner, mptcp_field};

pub const IPPROTO_MPTCP: u16 = 262;

/// Offsets of `mptcp_field`, `ABSENT` where the kernel has none.
#[unsafe(no_mangle)]
static MPTCP: [u32; mptcp_field::COUNT] = [ABSENT; mptcp_field::COUNT];

#[inline(always)]
fn offset(field: usize) -> u32 {
    unsafe { addr_of!(MPTCP).cast::<u32>().add(field).read_volatile() }
}

/// Whether a connection of MPTCP goes over it.
#[inline(always)]
pub unsafe fn is_subflow(sk: *const u8) -> bool {
    unsafe {
        let field = offset(mptcp_field::IS_MPTCP);
        if field == ABSENT {
            return false;
        }
        let tcp = h::bpf_skc_to_tcp_sock(sk as *mut c_void) as *const u8;
        !tcp.is_null() && tcp.add(field as usize).read_volatile() & 1 != 0
    }
}

/// What the user of a subflow has in his hands: its address, for no helper gives a pointer that storage takes. 0: none.
#[inline(always)]
unsafe fn parent<const PROBE: bool>(tcp: *const u8) -> u64 {
    unsafe {
        let (is_mptcp, conn) = (offset(mptcp_field::IS_MPTCP), offset(mptcp_field::CONN));
        if is_mptcp == ABSENT || conn == ABSENT || load_at::<PROBE, u8>(tcp, is_mptcp as usize) & 1 == 0 {
            return 0;
        }
        let context = load_at::<PROBE, u64>(tcp, offset(mptcp_field::ULP_DATA) as usize);
        read(context, mptcp_field::CONN)
    }
}

#[inline(always)]
unsafe fn read(base: u64, field: usize) -> u64 {
    let mut value = 0u64;
    if base != 0 {
        let from = (base + u64::from(offset(field))) as *const c_void;
        // Zero where it cannot be read.
        let _ = unsafe { h::bpf_probe_read_kernel(addr_of_mut!(value).cast(), 8, from) };
    }
    value
}

/// Who holds the parent, if an inventory has found it.
#[inline(always)]
pub unsafe fn holder(tcp: *const u8) -> Option<Owner> {
    unsafe { PARENTS.get(parent::<false>(tcp)).copied() }
}

/// Payload of the whole connection, told of its first subflow alone. `None`: as for any other socket.
#[inline(always)]
pub unsafe fn bytes<const PROBE: bool>(tcp: *const u8) -> Option<(u64, u64)> {
    unsafe {
        let parent = parent::<PROBE>(tcp);
        if parent == 0 || offset(mptcp_field::SENT) == ABSENT {
            return None;
        }
        if read(parent, mptcp_field::FIRST) != tcp as u64 {
            return Some((0, 0));
        }
        Some((read(parent, mptcp_field::SENT), read(parent, mptcp_field::RECEIVED)))
    }
}
