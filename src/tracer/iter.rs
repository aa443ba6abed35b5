//! Iterators of the kernel. By hand, because aya attaches them without their target.
#![expect(unsafe_code, reason = "two commands of bpf(2) that aya does not offer")]
use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Half of what the kernel has room for: it stops at what it was asked for, and where it has no room left it runs the
/// program once more for the object whose row did not fit.
const READ: usize = 16 << 10;

pub struct Iterator {
    link: OwnedFd,
}

impl Iterator {
    /// `map`: for those that walk through one.
    pub fn attach(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        #[repr(C)]
        struct LinkCreate {
            program: i32,
            target: u32,
            attach_type: u32,
            flags: u32,
            info: u64,
            info_len: u32,
            padding: u32,
        }
        let info = map.map_or(0, |map| map.as_raw_fd());
        let attributes = LinkCreate {
            program: program.as_raw_fd(),
            target: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            info: if map.is_some() { &raw const info as u64 } else { 0 },
            info_len: if map.is_some() { size_of_val(&info) as u32 } else { 0 },
            padding: 0,
        };
        Ok(Self {
            link: bpf(BPF_LINK_CREATE, &attributes)?,
        })
    }

    /// Runs the program over all entries and appends what it wrote.
    pub fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut rows = File::from(bpf(BPF_ITER_CREATE, &[self.link.as_raw_fd(), 0])?);
        let mut buffer = vec![0; READ];
        loop {
            match rows.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => into.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                // The second after a million objects without a row.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes and answers with a descriptor of ours or an error.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just created, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
