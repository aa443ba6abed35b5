//! One connection, and what all of them did.
use crate::{
    mover::{Mover, mover, receive_all, send_all},
    sockets,
};
use anyhow::{Result, ensure};
use rustix::{
    fd::{AsFd as _, OwnedFd},
    io::Errno,
    net::Shutdown,
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// The report: the oracle of the test.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) connected: AtomicUsize,
    pub(crate) accepted: AtomicUsize,
    pub(crate) sent: AtomicUsize,
    pub(crate) received: AtomicUsize,
    /// Connections whose end was seen.
    pub(crate) ended: AtomicUsize,
    /// Segments that connections had sent again when they ended.
    pub(crate) retransmits: AtomicUsize,
    /// Those that ended by a reset or a timeout.
    pub(crate) broken: AtomicUsize,
    /// Connections whose SYN carried bytes.
    pub(crate) fast: AtomicUsize,
    /// Connections that are MPTCP on both sides.
    pub(crate) multipath: AtomicUsize,
}

impl Done {
    pub(crate) fn report(&self) -> Value {
        json!({
            "connected": self.connected.load(Relaxed), "accepted": self.accepted.load(Relaxed),
            "sent": self.sent.load(Relaxed), "received": self.received.load(Relaxed),
            "ended": self.ended.load(Relaxed), "retransmits": self.retransmits.load(Relaxed), "broken": self.broken.load(Relaxed), "fast": self.fast.load(Relaxed), "multipath": self.multipath.load(Relaxed),
        })
    }
}

/// What goes through in one round, as this side sees it.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) by: String,
    pub(crate) send: usize,
    pub(crate) receive: usize,
    /// Every round by another descriptor of the socket; the one before is closed.
    pub(crate) dup: bool,
    /// This side stops sending after so many rounds.
    pub(crate) half: Option<usize>,
    /// Stays open after the peer's end.
    pub(crate) keep: bool,
    /// The one who answers closes instead of answering after so many rounds.
    pub(crate) hang_up: Option<usize>,
    /// Closing is a reset.
    pub(crate) abort: bool,
    /// How long sent bytes may stay without an acknowledgement.
    pub(crate) user_timeout_ms: Option<usize>,
}

pub(crate) struct Connection<'a> {
    socket: OwnedFd,
    mover: Box<dyn Mover>,
    plan: Plan,
    done: &'a Done,
    sent_early: usize,
    rounds: usize,
}

impl<'a> Connection<'a> {
    pub(crate) fn new((socket, sent_early): (OwnedFd, usize), plan: &Plan, done: &'a Done) -> Result<Self> {
        let mover = mover(&plan.by)?;
        if plan.abort {
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        }
        if let Some(timeout_ms) = plan.user_timeout_ms {
            rustix::net::sockopt::set_tcp_user_timeout(&socket, timeout_ms as u32)?;
        }
        Ok(Self {
            socket,
            mover,
            plan: plan.clone(),
            done,
            sent_early,
            rounds: 0,
        })
    }

    /// As the one who begins.
    pub(crate) fn ask(&mut self) -> Result<()> {
        self.send()?;
        self.take()
    }

    pub(crate) fn take(&mut self) -> Result<()> {
        let received = self.receive()?;
        ensure!(received == self.plan.receive, "{received} bytes came");
        self.look();
        Ok(())
    }

    /// As the one who answers, until the peer ends. What is left of the connection, if it is to be kept.
    pub(crate) fn answer(mut self) -> Result<Option<OwnedFd>> {
        loop {
            let received = self.receive()?;
            if received == 0 {
                self.count_end();
                return Ok(self.plan.keep.then_some(self.socket));
            }
            ensure!(received == self.plan.receive, "{received} bytes came");
            if self.plan.hang_up == Some(self.rounds) {
                self.count_end();
                return Ok(None);
            }
            if self.plan.half.is_none_or(|rounds| self.rounds < rounds) {
                self.send()?;
            }
            self.look();
        }
    }

    pub(crate) fn send(&mut self) -> Result<()> {
        if self.plan.dup {
            self.socket = rustix::io::fcntl_dupfd_cloexec(&self.socket, 0)?;
        }
        let rest = self.plan.send - self.sent_early;
        let sent = send_all(&mut *self.mover, self.socket.as_fd(), rest)?;
        self.done.sent.fetch_add(self.sent_early + sent, Relaxed);
        self.sent_early = 0;
        self.rounds += 1;
        if self.plan.half == Some(self.rounds) {
            rustix::net::shutdown(&self.socket, Shutdown::Write)?;
        }
        Ok(())
    }

    /// As the one who begins, after the other has ended it or nobody can any more.
    pub(crate) fn end(mut self) -> Result<()> {
        let received = self.receive()?;
        ensure!(received == 0, "{received} bytes instead of an end");
        self.count_end();
        Ok(())
    }

    pub(crate) fn count_end(&self) {
        let retransmits = sockets::retransmits(self.socket.as_fd());
        self.done.retransmits.fetch_add(retransmits as usize, Relaxed);
        self.done.ended.fetch_add(1, Relaxed);
    }

    /// 0 is an end of any kind.
    fn receive(&mut self) -> Result<usize> {
        let received = receive_all(&mut *self.mover, self.socket.as_fd(), self.plan.receive);
        let received = received.or_else(|error| match error.downcast_ref::<Errno>() {
            Some(&(Errno::CONNRESET | Errno::TIMEDOUT)) => {
                self.done.broken.fetch_add(1, Relaxed);
                Ok(0)
            }
            _ => Err(error),
        })?;
        self.done.received.fetch_add(received, Relaxed);
        Ok(received)
    }

    /// How the connection came to be, once it has carried something.
    fn look(&self) {
        if self.rounds == 1 {
            let socket = self.socket.as_fd();
            self.done.fast.fetch_add(usize::from(sockets::is_fast(socket)), Relaxed);
            self.done
                .multipath
                .fetch_add(usize::from(sockets::is_multipath(socket)), Relaxed);
        }
    }
}
