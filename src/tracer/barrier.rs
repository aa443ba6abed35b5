//! Waiting for whatever runs in the kernel at this moment.
#![expect(unsafe_code, reason = "a system call that rustix does not offer")]

/// Returns after every eBPF program that was running when it was called has ended. `false`: the kernel does not offer it.
pub(super) fn programs_have_ended() -> bool {
    const GLOBAL: libc::c_int = 1;
    // An RCU grace period, which is what the kernel's programs run under.
    // SAFETY: takes numbers only.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_returns() {
        std::hint::black_box(super::programs_have_ended());
    }
}
