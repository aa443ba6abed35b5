//! The socket calls and options that have no safe interface.
#![expect(unsafe_code, reason = "calls of the C library with buffers of this frame")]
use anyhow::{Context as _, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags},
    fd::{AsRawFd as _, BorrowedFd},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem,
    ptr::null_mut,
};

const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;

fn count(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error().into())
}

pub(crate) fn send_flags(socket: BorrowedFd<'_>, buffer: &[u8], flags: i32) -> Result<usize> {
    // SAFETY: the buffer outlives the call; with MSG_ZEROCOPY the caller waits for the completion.
    let sent = unsafe { libc::send(socket.as_raw_fd(), buffer.as_ptr().cast(), buffer.len(), flags) };
    count(sent).context("send")
}

/// Takes up to `bytes` out of the queue without copying them.
pub(crate) fn discard(socket: BorrowedFd<'_>, bytes: usize) -> Result<usize> {
    // SAFETY: TCP writes nothing to the buffer with MSG_TRUNC.
    let got = unsafe { libc::recv(socket.as_raw_fd(), null_mut(), bytes, libc::MSG_TRUNC) };
    count(got).context("recv with MSG_TRUNC")
}

/// A message of one slice each.
fn messages(slices: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    let message = |slice: &mut libc::iovec| {
        // SAFETY: all zero is a message without address, control data and slices.
        let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
        message.msg_hdr.msg_iov = slice;
        message.msg_hdr.msg_iovlen = 1;
        message
    };
    slices.iter_mut().map(message).collect()
}

fn total(messages: &[libc::mmsghdr], done: i32) -> Result<usize> {
    let done = count(done as isize)?;
    Ok(messages[..done].iter().map(|message| message.msg_len as usize).sum())
}

pub(crate) fn send_messages(socket: BorrowedFd<'_>, slices: Vec<IoSlice<'_>>) -> Result<usize> {
    let slice = |slice: &IoSlice<'_>| libc::iovec {
        iov_base: slice.as_ptr().cast_mut().cast(),
        iov_len: slice.len(),
    };
    let mut vectors: Vec<_> = slices.iter().map(slice).collect();
    let mut messages = messages(&mut vectors);
    // SAFETY: messages, vectors and buffers live until the call returns, and the kernel only reads the buffers.
    let done = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
    total(&messages, done).context("sendmmsg")
}

pub(crate) fn receive_messages(socket: BorrowedFd<'_>, mut slices: Vec<IoSliceMut<'_>>) -> Result<usize> {
    let slice = |slice: &mut IoSliceMut<'_>| libc::iovec {
        iov_base: slice.as_mut_ptr().cast(),
        iov_len: slice.len(),
    };
    let mut vectors: Vec<_> = slices.iter_mut().map(slice).collect();
    let mut messages = messages(&mut vectors);
    // SAFETY: messages, vectors and buffers live until the call returns, and nobody else uses the buffers.
    let done = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as u32,
            libc::MSG_WAITFORONE,
            null_mut(),
        )
    };
    total(&messages, done).context("recvmmsg")
}

pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<()> {
    set_option_bytes(socket, level, name, &value.to_ne_bytes())
}

pub(crate) fn set_option_bytes(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads as many bytes as there are, during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as u32,
        )
    };
    ensure!(
        result == 0,
        "option {name} of level {level}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

/// As many bytes of the option as there are; `None` where the socket has none.
pub(crate) fn get_option<const N: usize>(socket: BorrowedFd<'_>, level: i32, name: i32) -> Option<[u8; N]> {
    let (mut value, mut length) = ([0; N], N as u32);
    // SAFETY: the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value)
}

pub(crate) fn allow_zerocopy(socket: BorrowedFd<'_>) -> Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)
}

/// Waits for the next notice of the error queue; how many sends it completes.
pub(crate) fn zerocopy_completions(socket: BorrowedFd<'_>) -> Result<u32> {
    // An error needs no asking for.
    rustix::event::poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::empty())], None)?;
    let mut control = [0_u64; 16];
    // SAFETY: all zero is a message without address, slices and control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the control buffer is this frame's and aligned for its headers.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
    count(result).context("the error queue")?;
    // SAFETY: the kernel has filled in the control data, whose headers this walks within their length; the notice is
    // copied out as it may not be aligned.
    let error = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        ensure!(!header.is_null(), "the error queue gave no notice");
        libc::CMSG_DATA(header)
            .cast::<libc::sock_extended_err>()
            .read_unaligned()
    };
    ensure!(
        error.ee_errno == 0 && error.ee_origin == SO_EE_ORIGIN_ZEROCOPY,
        "another error: {} from {}",
        error.ee_errno,
        error.ee_origin
    );
    Ok(error.ee_data - error.ee_info + 1)
}

/// A child without `exec`; `None` in it.
pub(crate) fn fork() -> Result<Option<rustix::process::Pid>> {
    // SAFETY: the caller has one thread, so no lock is left behind in the child.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        child => Ok(Some(
            rustix::process::Pid::from_raw(child)
                .filter(|_| child > 0)
                .with_context(io::Error::last_os_error)?,
        )),
    }
}

/// A descriptor that a parent or the kernel has opened for this.
pub(crate) fn received(descriptor: i32) -> rustix::fd::OwnedFd {
    // SAFETY: nothing else in this process has taken it.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(descriptor) }
}
