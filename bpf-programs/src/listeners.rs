// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Who listens where.
use crate::{kernel::load, maps::LISTENERS, socket::local_address};
use aya_ebpf::helpers::generated as h;
use tarsier_common::{AddressKey, Field, Listener, Owner, SocketRecord};

/// Whose listen it is that a connection came in by.
#[inline(always)]
pub unsafe fn listener(sk: *const u8, netns: u32, family: u16) -> Option<&'static Listener> {
    unsafe {
        let mut key = AddressKey {
            netns,
            port: load(sk, Field::SK_PORT),
            family,
            address: local_address::<false>(sk, family),
        };
        if let Some(listener) = LISTENERS.get(key) {
            return Some(listener);
        }
        key.address = [0; 16];
        LISTENERS.get(key)
    }
}

#[inline(always)]
pub unsafe fn insert(key: AddressKey, owner: Owner, cookie: u64) {
    let listener = Listener {
        owner,
        cookie,
        seen_ns: unsafe { h::bpf_ktime_get_ns() },
    };
    // No room: whose its connections are is known once they are used.
    let _ = LISTENERS.insert(key, listener, 0);
}

#[inline(always)]
fn key(record: &SocketRecord) -> AddressKey {
    AddressKey {
        netns: record.netns,
        port: record.local_port,
        family: record.family,
        address: record.local,
    }
}

/// Of several that share a port, the last.
#[inline(always)]
pub unsafe fn begins(record: &SocketRecord) {
    unsafe { insert(key(record), record.owner, record.cookie) }
}

#[inline(always)]
pub unsafe fn ends(record: &SocketRecord) {
    let key = key(record);
    if unsafe { LISTENERS.get(key) }.is_some_and(|listener| listener.cookie == record.cookie) {
        let _ = LISTENERS.remove(key);
    }
}
