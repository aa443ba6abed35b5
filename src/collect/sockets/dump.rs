//! Asks the kernel by INET_DIAG.
use super::{
    State,
    diag::{Family, Message, messages, request},
    seen::Seen,
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{SOCK_DIAG, SocketAddrNetlink},
        recv, sendto, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

/// The kernel fills what it is given, up to 32 KiB.
const BUFFER_BYTES: usize = 64 * 1024;
/// It answers at once; this is for a kernel that does not.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(super) enum DumpError {
    #[error("may not enter the namespace")]
    Enter(#[source] io::Error),
    #[error("INET_DIAG fails")]
    Netlink(#[from] io::Error),
    #[error("INET_DIAG: an answer of {0} bytes")]
    Length(usize),
}

impl From<Errno> for DumpError {
    fn from(errno: Errno) -> Self {
        Self::Netlink(errno.into())
    }
}

/// Calls `each` for every socket of the namespace, listeners first; `None` is the agent's own. Returns how many messages
/// were malformed.
pub(super) fn dump(netns: Option<BorrowedFd<'_>>, mut each: impl FnMut(Seen)) -> Result<u64, DumpError> {
    let socket = match netns {
        None => open()?,
        Some(netns) => open_in(netns)?,
    };
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let listening = State::Listen.bit();
    let others = State::ALL.iter().fold(0, |bits, state| bits | state.bit()) & !listening;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut malformed, mut sequence) = (0, 0);
    for states in [listening, others] {
        for family in [Family::V4, Family::V6] {
            sequence += 1;
            let asked = request(family, states, sequence);
            sendto(&socket, &asked, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
            malformed += answer(&socket, &mut buffer, sequence, &mut each)?;
        }
    }
    Ok(malformed)
}

fn answer(socket: &OwnedFd, buffer: &mut [u8], sequence: u32, each: &mut impl FnMut(Seen)) -> Result<u64, DumpError> {
    let mut malformed = 0;
    loop {
        let (_, length) = match recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Err(Errno::INTR) => continue,
            received => received?,
        };
        // Longer than the buffer: the rest is gone. Nothing at all: there would be no end.
        let bytes = buffer
            .get(..length)
            .filter(|bytes| !bytes.is_empty())
            .ok_or(DumpError::Length(length))?;
        for message in messages(bytes, sequence) {
            match message {
                Message::Socket(seen) => each(seen),
                Message::Other => {}
                Message::Malformed => malformed += 1,
                Message::Done => return Ok(malformed),
                Message::Failed(errno) => return Err(Errno::from_raw_os_error(errno).into()),
            }
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    Ok(socket_with(AddressFamily::NETLINK, kind, flags, Some(SOCK_DIAG))?)
}

/// A socket stays in the namespace that it was made in. Only the thread that makes it enters, and then ends.
fn open_in(netns: BorrowedFd<'_>) -> Result<OwnedFd, DumpError> {
    let make = || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .map_err(|errno| DumpError::Enter(errno.into()))?;
        Ok(open()?)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, make)?;
        thread.join().expect("system calls do not panic")
    })
}
