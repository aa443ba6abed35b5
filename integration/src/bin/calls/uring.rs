//! The same bytes by way of `io_uring`.
use crate::{mover::Mover, raw};
use anyhow::{Context as _, Result, bail};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::{
    fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    net::addr::SocketAddrArg as _,
};
use std::{io, net::SocketAddr, ptr::null_mut};

pub(crate) struct Ring {
    ring: IoUring,
    operation: Operation,
}

#[derive(Clone, Copy)]
enum Operation {
    /// `IORING_OP_SEND` and `RECV`
    Send,
    /// The same, never tried at once: by a worker thread of the kernel
    Async,
    /// `IORING_OP_WRITE` and `READ`
    Write,
    /// `IORING_OP_SEND_ZC`; `RECV`
    Zerocopy,
}

impl Ring {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let operation = match name {
            "uring-send" | "uring-poll" => Operation::Send,
            "uring-async" => Operation::Async,
            "uring-write" => Operation::Write,
            "uring-zerocopy" => Operation::Zerocopy,
            other => bail!("no such call: {other:?}"),
        };
        let ring = if name == "uring-poll" {
            polled()?
        } else {
            IoUring::new(8).context("io_uring_setup")?
        };
        Ok(Self { ring, operation })
    }

    /// For sockets that a kernel thread connects and accepts.
    pub(crate) fn for_sockets() -> Result<Self> {
        Ok(Self {
            ring: polled()?,
            operation: Operation::Send,
        })
    }

    pub(crate) fn connect(&mut self, socket: BorrowedFd<'_>, address: SocketAddr) -> Result<()> {
        #![expect(unsafe_code, reason = "the address as the kernel wants it")]
        // SAFETY: the address is used before the closure returns, which waits for the connect to end.
        unsafe {
            address.with_sockaddr(|address, length| {
                let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), address.cast(), length).build();
                self.run(&entry)
            })?;
        }
        Ok(())
    }

    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>) -> Result<OwnedFd> {
        let entry = opcode::Accept::new(types::Fd(listener.as_raw_fd()), null_mut(), null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build();
        Ok(raw::received(self.run(&entry)? as i32))
    }

    /// Submits one entry and waits until the kernel has done with its buffer.
    fn run(&mut self, entry: &squeue::Entry) -> Result<usize> {
        #![expect(unsafe_code, reason = "the kernel reads the entry by itself")]
        // SAFETY: the entry's socket and buffer belong to the caller, who waits here for its completion.
        unsafe { self.ring.submission().push(entry) }.context("the ring is full")?;
        let mut result = None;
        loop {
            self.ring.submit_and_wait(1)?;
            for completion in self.ring.completion() {
                let more = cqueue::more(completion.flags());
                // The notice that a buffer is free again has no result of its own.
                if !cqueue::notif(completion.flags()) {
                    result = Some(completion.result());
                }
                if !more {
                    let result = result.context("a notice without a result")?;
                    return usize::try_from(result).map_err(|_negative| io::Error::from_raw_os_error(-result).into());
                }
            }
        }
    }
}

fn polled() -> Result<IoUring> {
    // A kernel thread takes the entries and does the work. Long enough that it does not sleep between two.
    IoUring::builder().setup_sqpoll(500).build(8).context("io_uring_setup")
}

impl Mover for Ring {
    fn send(&mut self, socket: BorrowedFd<'_>, buffer: &[u8]) -> Result<usize> {
        let (socket, from, bytes) = (types::Fd(socket.as_raw_fd()), buffer.as_ptr(), buffer.len() as u32);
        let entry = match self.operation {
            Operation::Send => opcode::Send::new(socket, from, bytes).build(),
            Operation::Async => opcode::Send::new(socket, from, bytes)
                .build()
                .flags(squeue::Flags::ASYNC),
            Operation::Write => opcode::Write::new(socket, from, bytes).build(),
            Operation::Zerocopy => opcode::SendZc::new(socket, from, bytes).build(),
        };
        self.run(&entry)
    }

    fn receive(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
        let (socket, to, bytes) = (types::Fd(socket.as_raw_fd()), buffer.as_mut_ptr(), buffer.len() as u32);
        let entry = match self.operation {
            Operation::Send | Operation::Zerocopy => opcode::Recv::new(socket, to, bytes).build(),
            Operation::Async => opcode::Recv::new(socket, to, bytes).build().flags(squeue::Flags::ASYNC),
            Operation::Write => opcode::Read::new(socket, to, bytes).build(),
        };
        self.run(&entry)
    }
}
