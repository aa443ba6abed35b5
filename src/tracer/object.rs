//! The eBPF object that `build.rs` made, embedded.

/// Aligned as an ELF file is read: by words of eight bytes.
#[repr(C)]
struct Aligned<Bytes: ?Sized> {
    align: [u64; 0],
    bytes: Bytes,
}

static OBJECT: &Aligned<[u8]> = &Aligned {
    align: [],
    bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/tarsier-ebpf")),
};

/// `None` in a build that found nothing to compile eBPF with.
pub fn object() -> Option<&'static [u8]> {
    (!cfg!(tarsier_no_bpf)).then_some(&OBJECT.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_aligned_elf_file_where_there_is_one() {
        let Some(object) = object() else { return };
        assert_eq!(object.as_ptr().align_offset(8), 0);
        assert!(object.starts_with(b"\x7fELF"));
    }
}
