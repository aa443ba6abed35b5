// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The eBPF programs. One file per hook family; every program counts what it saw before anything can fail.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the only atomics that compile for this target")]
#![no_std]
#![no_main]

mod accept;
mod call;
mod cgroup;
mod connect;
mod conversation;
mod exchanges;
mod files;
mod handover;
mod inventory;
mod kernel;
mod l7;
mod listeners;
mod maps;
mod mptcp;
mod news;
mod process;
mod segment;
mod socket;
mod spill;
mod talkers;
mod tcp;
mod totals;
mod walks;
mod words;
mod young;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
