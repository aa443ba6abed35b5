// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The hooks of who sends and receives, for those who also want to know what is said.
use crate::{
    accept::{is_inet, used_by_somebody},
    conversation::{begin, said, then},
    handover::hand_over,
    kernel::load,
    segment::{MSG_PEEK, is_wanted, segment, way},
    talkers,
    tcp::IPPROTO_TCP,
};
use aya_ebpf::{
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use tarsier_common::{AF_INET, AF_INET6, Field};

const IPPROTO_UDP: u16 = 17;

#[btf_tracepoint(function = "sock_send_length")]
pub fn l7_sent(ctx: BtfTracePointContext) -> i32 {
    unsafe { moved::<true>(ctx.arg(0), ctx.arg(1), 0) };
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn l7_received(ctx: BtfTracePointContext) -> i32 {
    unsafe { moved::<false>(ctx.arg(0), ctx.arg(1), ctx.arg(2)) };
    0
}

#[inline(always)]
unsafe fn moved<const SENT: bool>(sk: *const u8, result: i32, flags: i32) {
    unsafe {
        if !is_inet(sk) {
            return;
        }
        match load::<u16>(sk, Field::SK_PROTOCOL) {
            IPPROTO_TCP => stream::<SENT, false>(sk, result, flags),
            IPPROTO_UDP => datagram::<SENT, 0>(sk, result, flags),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn stream<const SENT: bool, const PAGES: bool>(sk: *const u8, result: i32, flags: i32) {
    unsafe {
        let mut conversation = talkers::find(sk);
        if conversation.is_null() {
            used_by_somebody(sk);
        } else if (*conversation).settled == 0 && used_by_somebody(sk) {
            (*conversation).settled = 1;
        }
        if result <= 0 || flags & MSG_PEEK != 0 {
            return;
        }
        let pages = if PAGES { way::PAGES } else { 0 };
        let way = way::STREAM | direction::<SENT>() | pages;
        if conversation.is_null() {
            if is_wanted::<true, SENT>(sk) {
                return segment(sk, result as u32, way);
            }
            conversation = begin(sk);
            if conversation.is_null() {
                return;
            }
        }
        match said(conversation, result as u32, way) {
            then::SEGMENT => hand_over(conversation, result as u32, way),
            then::BEGIN => hand_over(conversation, 0, way),
            _ => 0,
        };
    }
}

#[inline(always)]
unsafe fn datagram<const SENT: bool, const SIX: u32>(sk: *const u8, result: i32, flags: i32) {
    unsafe {
        if result > 0 && flags & MSG_PEEK == 0 && is_wanted::<false, SENT>(sk) {
            segment(sk, result as u32, SIX | direction::<SENT>());
        }
    }
}

#[inline(always)]
const fn direction<const SENT: bool>() -> u32 {
    if SENT { way::SENT } else { 0 }
}

// Since 5.19 the functions that receive have five arguments; before that these programs are refused.

#[fexit(function = "tcp_sendmsg")]
pub fn l7_sent_exit(ctx: FExitContext) -> i32 {
    unsafe { stream_exit::<true, false>(ctx.arg(0), ctx.arg(3), 0) };
    0
}

#[fexit(function = "tcp_recvmsg")]
pub fn l7_received_exit(ctx: FExitContext) -> i32 {
    unsafe { stream_exit::<false, false>(ctx.arg(0), ctx.arg(5), ctx.arg(3)) };
    0
}

/// What sendfile and splice send, a page at a time. Until 6.4: since then they go the way of all, as messages.
#[fexit(function = "tcp_sendpage")]
pub fn l7_sent_page_exit(ctx: FExitContext) -> i32 {
    unsafe { stream_exit::<true, true>(ctx.arg(0), ctx.arg(5), 0) };
    0
}

#[inline(always)]
unsafe fn stream_exit<const SENT: bool, const PAGES: bool>(sk: *const u8, result: i32, flags: i32) {
    unsafe {
        if is_inet(sk) && load::<u16>(sk, Field::SK_PROTOCOL) == IPPROTO_TCP {
            stream::<SENT, PAGES>(sk, result, flags);
        }
    }
}

#[fexit(function = "udp_sendmsg")]
pub fn l7_udp_sent_exit(ctx: FExitContext) -> i32 {
    unsafe { datagram_exit::<true, 0>(ctx.arg(0), ctx.arg(3), 0) };
    0
}

#[fexit(function = "udp_recvmsg")]
pub fn l7_udp_received_exit(ctx: FExitContext) -> i32 {
    unsafe { datagram_exit::<false, 0>(ctx.arg(0), ctx.arg(5), ctx.arg(3)) };
    0
}

#[fexit(function = "udpv6_sendmsg")]
pub fn l7_udp6_sent_exit(ctx: FExitContext) -> i32 {
    unsafe { datagram_exit::<true, { way::SIX }>(ctx.arg(0), ctx.arg(3), 0) };
    0
}

#[fexit(function = "udpv6_recvmsg")]
pub fn l7_udp6_received_exit(ctx: FExitContext) -> i32 {
    unsafe { datagram_exit::<false, { way::SIX }>(ctx.arg(0), ctx.arg(5), ctx.arg(3)) };
    0
}

/// What an IPv6 socket sends to an IPv4 address goes through both functions.
#[inline(always)]
unsafe fn datagram_exit<const SENT: bool, const SIX: u32>(sk: *const u8, result: i32, flags: i32) {
    unsafe {
        let family = if SIX != 0 { AF_INET6 } else { AF_INET };
        if load::<u16>(sk, Field::SK_FAMILY) == family && load::<u16>(sk, Field::SK_PROTOCOL) == IPPROTO_UDP {
            datagram::<SENT, SIX>(sk, result, flags);
        }
    }
}
