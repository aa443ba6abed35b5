// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The matcher's walks through the begin of a segment.
use crate::maps::HEADS;
use core::ptr::addr_of;
use tarsier_common::exchange::{walk, what};

// By themselves, for the verifier: it walks through each once, whoever calls.

#[inline(always)]
fn walk_head(what: u32, way: u32, len: u32, protocols: u32) -> u64 {
    match HEADS.get_ptr(way) {
        Some(draft) => unsafe { walk(what, &*addr_of!((*draft).head), len, protocols) },
        // There is one for each way.
        None => 0,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recognise(way: u32, len: u32, protocols: u32) -> u64 {
    walk_head(what::RECOGNISE, way, len, protocols)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn http_request(way: u32, len: u32) -> u64 {
    walk_head(what::HTTP_REQUEST, way, len, 0)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redis_requests(way: u32, len: u32) -> u64 {
    walk_head(what::REDIS_REQUESTS, way, len, 0)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redis_replies(way: u32, len: u32) -> u64 {
    walk_head(what::REDIS_REPLIES, way, len, 0)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn postgres_request(way: u32, len: u32) -> u64 {
    walk_head(what::POSTGRES_REQUEST, way, len, 0)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn postgres_reply(way: u32, len: u32) -> u64 {
    walk_head(what::POSTGRES_REPLY, way, len, 0)
}
