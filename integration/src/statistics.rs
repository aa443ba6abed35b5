//! The kernel's statistics of eBPF programs.
use anyhow::{Result, ensure};
use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// While it lives, the kernel times every program. It ends with this process however that ends, and touches no sysctl.
pub struct Statistics {
    _descriptor: OwnedFd,
}

impl Statistics {
    pub fn keep() -> Result<Self> {
        #![expect(unsafe_code, reason = "a system call without a wrapper")]
        const BPF_ENABLE_STATS: libc::c_int = 32;
        // The attribute's only field: BPF_STATS_RUN_TIME.
        let attribute = 0_u32;
        let size = size_of_val(&attribute) as libc::c_uint;
        // SAFETY: the kernel reads `size` bytes of the attribute, which outlives the call.
        let got = unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const attribute, size) };
        ensure!(got >= 0, "BPF_ENABLE_STATS: {}", io::Error::last_os_error());
        // SAFETY: a descriptor that the kernel has just made for us.
        let descriptor = unsafe { OwnedFd::from_raw_fd(got as i32) };
        Ok(Self {
            _descriptor: descriptor,
        })
    }
}
