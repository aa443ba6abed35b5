//! Giving memory back. Loading the programs needs several times what running them does, and so does a storm of
//! processes; glibc keeps what was freed for the same thread to use again, which it may never do.
#![expect(unsafe_code, reason = "calls of the C library that no crate wraps")]

/// Before anything is allocated. glibc raises the size from which an allocation is a mapping of its own to that of the
/// largest that was freed; from then on what is large and short-lived stays resident between that which is small and stays.
pub fn keep_large_apart() {
    #[cfg(target_env = "gnu")]
    {
        const FROM: libc::c_int = 128 * 1024;
        // SAFETY: sets a number. A refusal leaves the default, which works.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, FROM);
        }
    }
}

/// Returns freed memory to the kernel. Takes some milliseconds: after large pieces of work only.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
