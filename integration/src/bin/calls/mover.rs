//! The calls by which bytes go through a socket. Each counts what the kernel says it moved.
use crate::{ktls::KernelTls, raw, uring::Ring};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fd::{AsFd as _, BorrowedFd, OwnedFd},
    fs::MemfdFlags,
    net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags},
    pipe::{PipeFlags, SpliceFlags},
};
use std::{
    io::{IoSlice, IoSliceMut},
    net::SocketAddr,
};

/// No round number: neither whole pages nor a divisor of what the tests move.
pub(crate) const CHUNK: usize = 8_191;

pub(crate) trait Mover {
    /// At most `buffer`, once.
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize>;
    /// At most `buffer`, once; 0 at the end.
    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize>;
    /// What has to come in before the socket may be closed.
    fn settle(&mut self, _socket: BorrowedFd<'_>) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn mover(by: &str) -> Result<Box<dyn Mover>> {
    Ok(match by {
        "write" => Box::new(Plain),
        "writev" => Box::new(Vector),
        "send" => Box::new(Send),
        "sendto" => Box::new(SendTo),
        "sendmsg" => Box::new(Message),
        "sendmmsg" => Box::new(Messages),
        "sendfile" => Box::new(FileAndPeek::new()?),
        "splice" => Box::new(Splice::new()?),
        "zerocopy" => Box::<ZerocopyAndTrunc>::default(),
        "ktls" => Box::<KernelTls>::default(),
        ring if ring.starts_with("uring") => Box::new(Ring::new(ring)?),
        other => bail!("no such call: {other:?}"),
    })
}

/// Sends `bytes`; how many the kernel took.
pub(crate) fn send_all(mover: &mut dyn Mover, socket: BorrowedFd<'_>, bytes: usize) -> Result<usize> {
    let buffer = [b'q'; CHUNK];
    let mut sent = 0;
    while sent < bytes {
        let part = CHUNK.min(bytes - sent);
        sent += mover.send(socket, &buffer[..part])?;
    }
    mover.settle(socket)?;
    Ok(sent)
}

/// Receives `bytes`, or less if the peer ends; how many the kernel gave.
pub(crate) fn receive_all(mover: &mut dyn Mover, socket: BorrowedFd<'_>, bytes: usize) -> Result<usize> {
    let mut buffer = [0; CHUNK];
    let mut received = 0;
    while received < bytes {
        let part = CHUNK.min(bytes - received);
        match mover.receive(socket, &mut buffer[..part])? {
            0 => break,
            got => received += got,
        }
    }
    Ok(received)
}

struct Plain;

impl Mover for Plain {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        Ok(rustix::io::write(socket, buffer)?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        Ok(rustix::io::read(socket, buffer)?)
    }
}

/// `writev`, `readv`
struct Vector;

impl Mover for Vector {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        Ok(rustix::io::writev(socket, &slices(buffer))?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        Ok(rustix::io::readv(socket, &mut slices_mut(buffer))?)
    }
}

fn slices(buffer: &[u8]) -> Vec<IoSlice<'_>> {
    buffer.chunks(part(buffer.len())).map(IoSlice::new).collect()
}

fn slices_mut(buffer: &mut [u8]) -> Vec<IoSliceMut<'_>> {
    buffer.chunks_mut(part(buffer.len())).map(IoSliceMut::new).collect()
}

fn part(bytes: usize) -> usize {
    bytes.div_ceil(3).max(1)
}

/// `send`, `recv`
struct Send;

impl Mover for Send {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        Ok(rustix::net::send(socket, buffer, SendFlags::empty())?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        Ok(rustix::net::recv(socket, buffer, RecvFlags::empty())?.0)
    }
}

/// `sendto` with the peer's address, `recvfrom` with room for one
struct SendTo;

impl Mover for SendTo {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        let peer = SocketAddr::try_from(rustix::net::getpeername(socket)?.context("no peer")?)?;
        Ok(rustix::net::sendto(socket, buffer, SendFlags::empty(), &peer)?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        Ok(rustix::net::recvfrom(socket, buffer, RecvFlags::empty())?.0)
    }
}

/// `sendmsg`, `recvmsg`
struct Message;

impl Mover for Message {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        let mut control = SendAncillaryBuffer::default();
        let slices = slices(buffer);
        Ok(rustix::net::sendmsg(socket, &slices, &mut control, SendFlags::empty())?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        let mut control = RecvAncillaryBuffer::default();
        let mut slices = slices_mut(buffer);
        let message = rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::empty())?;
        Ok(message.bytes)
    }
}

/// `sendmmsg`, `recvmmsg`
struct Messages;

impl Mover for Messages {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        raw::send_messages(socket, slices(buffer))
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        raw::receive_messages(socket, slices_mut(buffer))
    }
}

/// `sendfile`; `recv` with `MSG_PEEK`, then `read`
struct FileAndPeek {
    file: OwnedFd,
}

impl FileAndPeek {
    fn new() -> Result<Self> {
        let file = rustix::fs::memfd_create("calls", MemfdFlags::CLOEXEC)?;
        ensure!(rustix::io::write(&file, &[b'f'; CHUNK])? == CHUNK, "a short write");
        Ok(Self { file })
    }
}

impl Mover for FileAndPeek {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        Ok(rustix::fs::sendfile(socket, &self.file, Some(&mut 0), buffer.len())?)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        let (_, peeked) = rustix::net::recv(socket, &mut *buffer, RecvFlags::PEEK)?;
        let got = rustix::io::read(socket, buffer)?;
        ensure!(got >= peeked, "{peeked} bytes were there and {got} came");
        Ok(got)
    }
}

/// `splice` from a pipe, and to one
struct Splice {
    read: OwnedFd,
    write: OwnedFd,
}

impl Splice {
    fn new() -> Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { read, write })
    }
}

impl Mover for Splice {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        let filled = rustix::io::write(&self.write, buffer)?;
        let mut sent = 0;
        while sent < filled {
            sent += rustix::pipe::splice(
                self.read.as_fd(),
                None,
                socket,
                None,
                filled - sent,
                SpliceFlags::empty(),
            )?;
        }
        Ok(sent)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        let got = rustix::pipe::splice(
            socket,
            None,
            self.write.as_fd(),
            None,
            buffer.len(),
            SpliceFlags::empty(),
        )?;
        let mut drained = 0;
        while drained < got {
            drained += rustix::io::read(&self.read, &mut buffer[..got - drained])?;
        }
        Ok(got)
    }
}

/// `MSG_ZEROCOPY`, its completions awaited; `MSG_TRUNC`, which takes bytes from the queue and copies none
#[derive(Default)]
struct ZerocopyAndTrunc {
    pending: u32,
}

impl Mover for ZerocopyAndTrunc {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        raw::allow_zerocopy(socket)?;
        let sent = raw::send_flags(socket, buffer, libc::MSG_ZEROCOPY)?;
        self.pending += 1;
        // The buffer is the kernel's until then.
        self.settle(socket)?;
        Ok(sent)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        raw::discard(socket, buffer.len())
    }

    fn settle(&mut self, socket: BorrowedFd<'_>) -> Result<()> {
        while self.pending > 0 {
            self.pending -= raw::zerocopy_completions(socket)?;
        }
        Ok(())
    }
}
