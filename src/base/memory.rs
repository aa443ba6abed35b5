//! Giving memory back. Loading the programs needs several times what running them does, and so does a storm of
//! processes; glibc keeps what was freed for the same thread to use again, which it may never do.
#![expect(unsafe_code, reason = "one call of the C library that no crate wraps")]

/// Returns freed memory to the kernel. Takes some milliseconds: after large pieces of work only.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
