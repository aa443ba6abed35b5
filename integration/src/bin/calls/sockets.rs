//! The ways to come by a socket.
use crate::{mover::CHUNK, raw, uring::Ring};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fd::{AsFd as _, BorrowedFd, OwnedFd},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketType, ipproto,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::unix::net::UnixStream,
};

const TCP_FASTOPEN_NO_COOKIE: i32 = 34;
const TCPI_OPT_SYN_DATA: u8 = 32;
const SOL_MPTCP: i32 = 284;
const MPTCP_INFO: i32 = 1;
const MPTCP_INFO_FLAG_FALLBACK: u8 = 1;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Via {
    Tcp,
    Mptcp,
    /// The first bytes go with the SYN: `sendto` with `MSG_FASTOPEN` instead of `connect`.
    FastOpen,
    /// The same behind a `connect` that only pretends.
    FastOpenConnect,
    /// Connected and accepted by a kernel thread.
    Ring,
}

impl Via {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "tcp" => Self::Tcp,
            "mptcp" => Self::Mptcp,
            "tfo" => Self::FastOpen,
            "tfo-connect" => Self::FastOpenConnect,
            "uring" => Self::Ring,
            other => bail!("no such kind of socket: {other:?}"),
        })
    }

    fn socket(self, address: SocketAddr) -> Result<OwnedFd> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let protocol = (self == Self::Mptcp).then_some(ipproto::MPTCP);
        let socket = rustix::net::socket_with(family, SocketType::STREAM, rustix::net::SocketFlags::CLOEXEC, protocol)?;
        if matches!(self, Self::FastOpen | Self::FastOpenConnect) {
            raw::set_option(socket.as_fd(), libc::IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)?;
        }
        Ok(socket)
    }

    pub(crate) fn listen(self, address: SocketAddr) -> Result<OwnedFd> {
        let socket = self.socket(address)?;
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address).with_context(|| format!("binding {address}"))?;
        if matches!(self, Self::FastOpen | Self::FastOpenConnect) {
            raw::set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 64)?;
        }
        rustix::net::listen(&socket, 64)?;
        Ok(socket)
    }

    /// A connected socket, and how many of `bytes` are sent already.
    pub(crate) fn connect(self, address: SocketAddr, bytes: usize) -> Result<(OwnedFd, usize)> {
        let socket = self.socket(address)?;
        let mut sent = 0;
        if self == Self::FastOpen {
            let first = [b'q'; CHUNK];
            let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
            // More than the SYN has room for: the rest follows after the handshake.
            sent = rustix::net::sendto(&socket, &first[..bytes.min(CHUNK)], flags, &address)?;
        } else if self == Self::Ring {
            Ring::for_sockets()?.connect(socket.as_fd(), address)?;
        } else {
            if self == Self::FastOpenConnect {
                raw::set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
            }
            rustix::net::connect(&socket, &address).with_context(|| format!("connecting to {address}"))?;
        }
        Ok((socket, sent))
    }
}

/// Bytes of this connection went with a SYN and were acknowledged with it.
pub(crate) fn is_fast(socket: BorrowedFd<'_>) -> bool {
    let info: Option<[u8; 8]> = raw::get_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO);
    info.is_some_and(|info| info[5] & TCPI_OPT_SYN_DATA != 0)
}

/// Segments of this connection that TCP has sent again.
pub(crate) fn retransmits(socket: BorrowedFd<'_>) -> u32 {
    const TOTAL: usize = 100;
    let info: Option<[u8; TOTAL + 4]> = raw::get_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO);
    let total = info.and_then(|info| info[TOTAL..].try_into().ok());
    total.map_or(0, u32::from_ne_bytes)
}

/// Both sides speak MPTCP.
pub(crate) fn is_multipath(socket: BorrowedFd<'_>) -> bool {
    let info: Option<[u8; 16]> = raw::get_option(socket, SOL_MPTCP, MPTCP_INFO);
    info.is_some_and(|info| info[8] & MPTCP_INFO_FLAG_FALLBACK == 0)
}

/// What `open` makes belongs to the network namespace at `path`; this thread is back in its own afterwards.
pub(crate) fn inside<T>(path: Option<&str>, open: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(path) = path else { return open() };
    let enter = |path: &str| -> Result<()> {
        let netns = File::open(path).with_context(|| format!("opening {path}"))?;
        Ok(move_into_link_name_space(
            netns.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    };
    let own = File::open("/proc/thread-self/ns/net")?;
    enter(path)?;
    let opened = open();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))?;
    opened
}

pub(crate) fn give(channel: &UnixStream, socket: BorrowedFd<'_>) -> Result<()> {
    let sockets = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&sockets)),
        "no room for a descriptor"
    );
    rustix::net::sendmsg(channel, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// `None` when the giver has gone.
pub(crate) fn take(channel: &UnixStream) -> Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let message = rustix::net::recvmsg(channel, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    sockets.next().context("a message without a descriptor").map(Some)
}
