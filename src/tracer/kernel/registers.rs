//! Where the running system call's number and arguments are, and which calls move data.
use crate::tracer::btf::Btf;
use rustix::ffi::c_long;
use tarsier_common::{call, register};

/// In the order of `call`: those that send, then those that receive.
pub(super) const CALLS: [u32; 2 * call::COUNT] = [
    number(libc::SYS_write),
    number(libc::SYS_sendto),
    number(libc::SYS_writev),
    number(libc::SYS_sendmsg),
    number(libc::SYS_sendmmsg),
    number(libc::SYS_read),
    number(libc::SYS_recvfrom),
    number(libc::SYS_readv),
    number(libc::SYS_recvmsg),
    number(libc::SYS_recvmmsg),
];

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
const fn number(call: c_long) -> u32 {
    call as u32
}

#[cfg(target_arch = "x86_64")]
const FIELDS: [(&str, &str, u32); register::COUNT] = [
    ("pt_regs", "orig_ax", 0),
    ("pt_regs", "di", 0),
    ("pt_regs", "si", 0),
    ("pt_regs", "dx", 0),
    ("pt_regs", "r8", 0),
];

/// Of the arguments, how far behind the first register.
#[cfg(target_arch = "aarch64")]
const FIELDS: [(&str, &str, u32); register::COUNT] = [
    ("pt_regs", "syscallno", 0),
    ("pt_regs", "regs", 0),
    ("pt_regs", "regs", 8),
    ("pt_regs", "regs", 16),
    ("pt_regs", "regs", 32),
];

/// The verifier refuses those programs that would read where a kernel has nothing, and those alone.
pub(super) fn offsets(kernel: &Btf) -> [u32; register::COUNT] {
    FIELDS.map(|(structure, field, behind)| match kernel.offset(structure, field) {
        Ok(offset) => offset + behind,
        Err(_) => u32::MAX,
    })
}
