// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The system call that runs: where it has what it moves. Its registers tell, if it is one that moves data of this socket.
//! Others do so too: the end of somebody's io_uring request runs within whatever its task happens to call.
use crate::{
    kernel::{load, offset},
    maps::{SegmentDraft, Vector},
};
use aya_ebpf::helpers::generated as h;
use core::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr::{addr_of, addr_of_mut},
};
use tarsier_common::{Field, SEGMENT_MAX, call, register};

/// Their numbers: those that send, then those that receive.
#[unsafe(no_mangle)]
static CALLS: [u32; 2 * call::COUNT] = [0; 2 * call::COUNT];

/// Where their numbers and arguments are, by `register`.
#[unsafe(no_mangle)]
static REGISTERS: [u32; register::COUNT] = [0; register::COUNT];

/// Pieces that are looked at; behind them a segment is as if it were longer than what is copied.
const PIECES: u64 = 4;

const IOVEC_LEN: u64 = 16;
const MSGHDR_NAME: u64 = 0;
const MSGHDR_PIECES: u64 = 16;
const MMSGHDR_LEN: u64 = 64;

/// One that moves data that way; of that socket, if `is_of` says so.
pub struct Call {
    which: usize,
    fd: u32,
    /// Its second, third and fifth argument.
    data: u64,
    count: u64,
    name: u64,
}

/// Where the data is.
#[derive(Clone, Copy)]
pub struct Place {
    /// Of the array of pieces; zero where there is only the one below.
    pub pieces: u64,
    pub count: u64,
    pub base: u64,
    pub len: u64,
}

impl Place {
    /// One of its pieces: where it is, and how long.
    #[inline(always)]
    pub unsafe fn piece(&self, which: u32) -> Option<(u64, u64)> {
        if self.pieces == 0 {
            return if which == 0 { Some((self.base, self.len)) } else { None };
        }
        if u64::from(which) >= self.count {
            return None;
        }
        let [base, len] = unsafe { read_user::<[u64; 2]>(self.pieces + u64::from(which) * IOVEC_LEN)? };
        Some((base, len))
    }
}

#[inline(always)]
fn number_of(sent: bool, which: usize) -> u32 {
    let at = if sent { which } else { which + call::COUNT };
    unsafe { addr_of!(CALLS).cast::<u32>().add(at).read_volatile() }
}

#[inline(always)]
unsafe fn argument<T: Copy>(registers: *const u8, which: usize) -> T {
    unsafe {
        let at = addr_of!(REGISTERS).cast::<u32>().add(which).read_volatile();
        registers.add(at as usize).cast::<T>().read_volatile()
    }
}

#[inline(always)]
pub unsafe fn running(task: *const u8, sent: bool) -> Option<Call> {
    unsafe {
        let registers = h::bpf_task_pt_regs(task as *mut _) as *const u8;
        if registers.is_null() {
            return None;
        }
        let number: u32 = argument(registers, register::NUMBER);
        let which = (0..call::COUNT).find(|which| number == number_of(sent, *which))?;
        let fd: u64 = argument(registers, register::FIRST);
        Some(Call {
            which,
            fd: fd as u32,
            data: argument(registers, register::SECOND),
            count: argument(registers, register::THIRD),
            name: argument(registers, register::FIFTH),
        })
    }
}

impl Call {
    /// The same, where that descriptor was proved to be the socket before. (One that has been closed and opened anew
    /// meanwhile is another socket, on which this hook does not run.)
    #[inline(always)]
    pub unsafe fn is_known(&self, task: *const u8, sk: u64, known: *mut u32) -> bool {
        unsafe {
            let fd = self.fd.wrapping_add(1);
            if *known != fd {
                if !is_socket(task, self.fd, sk) {
                    return false;
                }
                *known = fd;
            }
            true
        }
    }

    /// Dearer than all else here.
    #[inline(always)]
    pub unsafe fn is_of(&self, task: *const u8, sk: *const u8) -> bool {
        unsafe { is_socket(task, self.fd, sk as u64) }
    }

    /// The port it goes to, as the caller has said; of several messages, the first one's.
    #[inline(always)]
    pub unsafe fn port(&self) -> Option<u16> {
        unsafe {
            let name = match self.which {
                call::ADDRESSED => self.name,
                call::MESSAGE | call::MESSAGES => read_user(self.data + MSGHDR_NAME)?,
                _ => 0,
            };
            if name == 0 {
                return None;
            }
            // Behind the family, in IPv4 as in IPv6.
            read_user::<u16>(name + 2).map(u16::from_be)
        }
    }

    /// `vector` remembers which of several messages comes next.
    #[inline(always)]
    pub unsafe fn place(&self, vector: impl FnOnce() -> *mut Vector) -> Option<Place> {
        unsafe {
            match self.which {
                call::PLAIN | call::ADDRESSED => Some(Place {
                    pieces: 0,
                    count: 0,
                    base: self.data,
                    len: self.count,
                }),
                call::VECTOR => Some(Place {
                    pieces: self.data,
                    count: self.count,
                    base: 0,
                    len: 0,
                }),
                call::MESSAGE => message(self.data),
                _ => message(next_of(vector(), self.data, self.count)?),
            }
        }
    }
}

#[inline(always)]
unsafe fn message(header: u64) -> Option<Place> {
    unsafe {
        // How many there are stands behind where they are.
        let [pieces, count] = read_user::<[u64; 2]>(header + MSGHDR_PIECES)?;
        Some(Place {
            pieces,
            count,
            base: 0,
            len: 0,
        })
    }
}

/// Which of the messages of one call this is: the call itself looks the same at each of them. The one after that of the last
/// time, if it is the same call: the first message would be another one by now if it were not.
#[inline(always)]
unsafe fn next_of(before: *mut Vector, headers: u64, count: u64) -> Option<u64> {
    unsafe {
        if before.is_null() {
            return None;
        }
        let base: u64 = read_user(message(headers)?.pieces)?;
        let now = Vector {
            thread: h::bpf_get_current_pid_tgid(),
            headers,
            begins: read_user(base)?,
            index: 0,
        };
        let next = (*before).index + 1;
        let same = (*before).thread == now.thread && (*before).headers == headers && (*before).begins == now.begins;
        let index = if same && next < count { next } else { 0 };
        (*before).thread = now.thread;
        (*before).headers = headers;
        (*before).begins = now.begins;
        (*before).index = index;
        Some(headers.wrapping_add(index.wrapping_mul(MMSGHDR_LEN)))
    }
}

/// Walks the task's table of descriptors.
#[inline(always)]
unsafe fn is_socket(task: *const u8, fd: u32, sk: u64) -> bool {
    unsafe {
        let files: *const u8 = load(task, Field::TASK_FILES);
        if files.is_null() {
            return false;
        }
        let table: *const u8 = load(files, Field::FILES_TABLE);
        if table.is_null() {
            return false;
        }
        // From here on the verifier knows nothing of what is read.
        let array: u64 = load(table, Field::TABLE_FILES);
        let file = read_kernel(array + 8 * u64::from(fd));
        let socket = read_kernel(file + offset(Field::FILE_PRIVATE) as u64);
        read_kernel(socket + offset(Field::SOCKET_SK) as u64) == sk
    }
}

/// Copies at most `wanted` bytes into the draft. Says how many there were.
#[inline(always)]
pub unsafe fn copy(place: &Place, draft: *mut SegmentDraft, wanted: u32) -> u32 {
    unsafe {
        if place.pieces == 0 {
            let len = u64::from(wanted).min(place.len) as u32;
            return copy_piece(draft, 0, len, place.base);
        }
        let mut copied = 0u32;
        for i in 0..PIECES {
            if i >= place.count || copied >= wanted {
                break;
            }
            let at = place.pieces + i * IOVEC_LEN;
            let (Some(base), Some(len)) = (read_user::<u64>(at), read_user::<u64>(at + 8)) else {
                break;
            };
            let len = u64::from(wanted - copied).min(len) as u32;
            if len > 0 {
                let got = copy_piece(draft, copied, len, base);
                copied += got;
                if got < len {
                    break;
                }
            }
        }
        copied
    }
}

#[inline(always)]
unsafe fn copy_piece(draft: *mut SegmentDraft, from: u32, len: u32, base: u64) -> u32 {
    unsafe {
        let (from, len) = (bounded(draft, from), bounded(draft, len));
        let to = addr_of_mut!((*draft).payload).cast::<u8>().add(from as usize);
        match h::bpf_probe_read_user(to.cast(), len, base as *const c_void) {
            0 => len,
            _ => 0,
        }
    }
}

/// The same number, of which compiler and verifier know no more than that it is at most `SEGMENT_MAX`: the one would leave
/// out a check that the other needs.
#[inline(always)]
pub unsafe fn bounded(draft: *mut SegmentDraft, number: u32) -> u32 {
    unsafe {
        let at = addr_of_mut!((*draft).record.copied);
        at.write_volatile(number);
        at.read_volatile() & SEGMENT_MAX as u32
    }
}

/// Whether all of it was there.
#[inline(always)]
pub unsafe fn read_bytes(to: *mut u8, len: u32, base: u64) -> bool {
    unsafe { h::bpf_probe_read_user(to.cast(), len, base as *const c_void) == 0 }
}

#[inline(always)]
unsafe fn read_user<T: Copy>(address: u64) -> Option<T> {
    unsafe {
        let mut value = MaybeUninit::<T>::uninit();
        let result = h::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        );
        if result == 0 { Some(value.assume_init()) } else { None }
    }
}

#[inline(always)]
unsafe fn read_kernel(address: u64) -> u64 {
    let mut value = 0u64;
    unsafe { h::bpf_probe_read_kernel(addr_of_mut!(value).cast(), 8, address as *const c_void) };
    value
}
