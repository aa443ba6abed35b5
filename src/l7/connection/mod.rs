//! TCP connections whose words the kernel hands over: what it has counted until then goes on here.
mod line;
mod table;

use super::{
    dialogue::{Dialogue, Exchange, Handover, Hearer, Side, Status},
    http::Http,
    memcached::Memcached,
    postgres::Postgres,
    redis::Redis,
    sums::Sums,
    watch::Wishes,
};
use crate::{
    base::ids::NetnsId,
    decode::{Classes, Exchanges, Latency, Owner, Protocol, Role, UnparsedReason},
};
use line::{Heard, Line, Words};
use std::net::SocketAddr;
pub(super) use table::{Connections, News};

/// Who asks whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// Of this end.
    pub owner: Owner,
    pub netns: NetnsId,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Of this end: who asks is the client.
    pub role: Role,
    pub protocol: Protocol,
}

/// Of what was said on a connection: a segment, or a part of one that is long.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Its cookie.
    pub socket: u64,
    pub between: Between,
    pub side: Side,
    /// Bytes that went this way before, since the kernel first saw the socket.
    pub position: u64,
    /// All bytes of it. The payload is shorter where the kernel did not take all.
    pub len: u32,
    /// It is the first part of its segment.
    pub starts: bool,
    pub payload: &'a [u8],
    /// The first of the connection that the kernel hands over.
    pub begin: Option<Begin<'a>>,
}

/// Where the kernel has left off.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// In the part's direction, and in the other.
    pub from: u64,
    pub other_from: u64,
    pub handover: Handover,
    /// The first bytes of a request that is not known to be one yet. They came before `from`, at `handover.asked_ns`.
    pub carried: &'a [u8],
}

/// What the kernel has counted on a connection since it last told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub exchanges: Exchanges,
    pub unanswered: u64,
    pub ended: Option<End>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Its cookie.
    pub socket: u64,
    /// Where the words of its client and of its server have ended, if the kernel hands them over.
    pub words: Option<[u64; 2]>,
    /// Some of what it has handed over was lost.
    pub lost: bool,
}

/// On a socket, bodies reach up to those positions: nobody wants to see what is within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassOver {
    /// Its cookie.
    pub socket: u64,
    pub sent: u64,
    pub received: u64,
}

#[derive(Default)]
struct Counts {
    classes: Classes,
    latency: Latency,
}

impl Counts {
    fn add(&mut self, exchange: &Exchange) {
        let class = match exchange.status {
            Status::Ok => 2,
            Status::Failed => 5,
            Status::Code(code) => usize::from(code / 100),
        };
        let class = if class < self.classes.len() { class } else { 0 };
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
        self.latency
            .observe(exchange.replied_ns.saturating_sub(exchange.asked_ns));
    }
}

struct Connection {
    between: Between,
    client: Line,
    server: Line,
    /// `None`: nothing can be made of what is said any more.
    dialogue: Option<Box<dyn Dialogue>>,
    /// Until then it is not known where it begins.
    begun: bool,
    /// Where the last large body of the client ends, and of the server.
    bodies: [u64; 2],
    /// Since that was told.
    passes_over: bool,
    counts: Counts,
    last_ns: u64,
}

/// What a dialogue tells of, on its way to the counts.
struct Ear<'a> {
    between: &'a Between,
    counts: &'a mut Counts,
    sums: &'a mut Sums,
    wishes: &'a Wishes,
}

impl Hearer for Ear<'_> {
    fn watches(&self) -> bool {
        self.wishes.watches(self.between)
    }

    fn watches_text(&self) -> bool {
        self.wishes.watch.text && self.watches()
    }

    fn leaves_out(&self, target: &[u8]) -> bool {
        self.wishes.leaves_out(target)
    }

    fn exchanged(&mut self, exchange: Exchange) {
        self.counts.add(&exchange);
        if self.watches() {
            self.sums.telling.tell(self.between, exchange, self.wishes.watch.text);
        }
    }

    fn unparsed(&mut self, reason: UnparsedReason, count: u64) {
        let Between { owner, protocol, .. } = self.between;
        self.sums.unparsed_many(owner, *protocol, reason, count);
    }
}

impl Connection {
    fn new(part: &Part<'_>) -> Self {
        Self {
            between: part.between,
            client: Line::default(),
            server: Line::default(),
            dialogue: dialogue(part.between.protocol),
            begun: false,
            bodies: [0; 2],
            passes_over: false,
            counts: Counts::default(),
            last_ns: part.time_ns,
        }
    }

    fn buffered(&self) -> usize {
        let dialogue = self.dialogue.as_ref().map_or(0, |dialogue| dialogue.buffered());
        self.client.buffered() + self.server.buffered() + dialogue
    }

    fn is_waiting(&self) -> bool {
        self.client.is_waiting() || self.server.is_waiting()
    }

    fn line(&self, side: Side) -> &Line {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    fn expects_reply(&self) -> bool {
        self.dialogue.as_ref().is_none_or(|dialogue| dialogue.expects_reply())
    }

    /// What is next on that side, and whatever has waited for it.
    fn hear(&mut self, side: Side, words: Option<&Words<'_>>, sums: &mut Sums, wishes: &Wishes) {
        let Some(dialogue) = &mut self.dialogue else { return };
        let line = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let mut ear = Ear {
            between: &self.between,
            counts: &mut self.counts,
            sums,
            wishes,
        };
        let mut hear = |heard: Heard<'_>| match heard {
            Heard::Piece(piece) => dialogue.hear(side, &piece, &mut ear),
            Heard::Missed(bytes, reason) => dialogue.miss(side, bytes, reason, &mut ear),
        };
        match words {
            Some(words) => line.say(words, &mut hear),
            None => line.next_held(&mut hear),
        }
        let immaterial = dialogue.immaterial(side);
        if wishes.passes_over(immaterial, &self.between)
            && let Some(up_to) = line.pass_over(immaterial)
        {
            dialogue.miss(side, immaterial, UnparsedReason::Gap, &mut ear);
            let [client, server] = &mut self.bodies;
            match side {
                Side::Client => *client = up_to,
                Side::Server => *server = up_to,
            }
            self.passes_over = true;
        }
        if dialogue.is_over() {
            self.dialogue = None;
            self.client = Line::default();
            self.server = Line::default();
        }
    }

    fn begin(&mut self, side: Side, begin: &Begin<'_>, sums: &mut Sums, wishes: &Wishes) {
        self.begun = true;
        let (this, other) = match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        };
        this.begin(begin.from);
        other.begin(begin.other_from);
        if let Some(dialogue) = &mut self.dialogue {
            dialogue.take_over(begin.handover);
        }
        if !begin.carried.is_empty() {
            // They end where the client's line begins.
            let from = match side {
                Side::Client => begin.from,
                Side::Server => begin.other_from,
            };
            let before = from.saturating_sub(begin.carried.len() as u64);
            self.client.begin(before);
            let words = Words {
                time_ns: begin.handover.asked_ns,
                position: before,
                len: u32::try_from(from - before).unwrap_or(0),
                starts: true,
                payload: begin.carried,
            };
            self.hear(Side::Client, Some(&words), sums, wishes);
        }
    }

    /// Nobody says any more where it begins.
    fn begin_anywhere(&mut self, sums: &mut Sums, wishes: &Wishes) {
        self.begun = true;
        let Some(dialogue) = &mut self.dialogue else { return };
        let mut ear = Ear {
            between: &self.between,
            counts: &mut self.counts,
            sums,
            wishes,
        };
        for side in [Side::Client, Side::Server] {
            dialogue.miss(side, 1, UnparsedReason::Gap, &mut ear);
        }
    }

    fn apply(&mut self, side: Side, words: &Words<'_>, sums: &mut Sums, wishes: &Wishes) {
        let early = side == Side::Server && !self.expects_reply();
        let line = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        if line.is_past(words) {
            return;
        }
        // One without bytes is only a begin, and waits for nothing.
        let waits = words.len > 0 && (!self.begun || early || line.is_behind(words.position));
        if waits && line.hold(words) {
            // It comes later.
            return self.follow(sums, wishes);
        }
        if !self.begun {
            self.begin_anywhere(sums, wishes);
        }
        while self.waits_before(side, words.position) {
            self.hear(side, None, sums, wishes);
        }
        self.hear(side, Some(words), sums, wishes);
        self.follow(sums, wishes);
    }

    /// There is one that has waited, and now cannot wait any longer.
    fn waits_before(&self, side: Side, position: u64) -> bool {
        self.line(side).waits_before(position)
    }

    /// Those that nothing is missing before any more.
    fn follow(&mut self, sums: &mut Sums, wishes: &Wishes) {
        while self.begun {
            if self.client.is_due() {
                self.hear(Side::Client, None, sums, wishes);
            } else if self.server.is_due() && self.expects_reply() {
                self.hear(Side::Server, None, sums, wishes);
            } else {
                return;
            }
        }
    }

    /// Nothing comes that they could wait for. `up_to`: where either side has ended; what is missing then is lost.
    fn release(&mut self, up_to: Option<[u64; 2]>, sums: &mut Sums, wishes: &Wishes) {
        if !self.begun && self.is_waiting() {
            self.begin_anywhere(sums, wishes);
        }
        for side in [Side::Client, Side::Server] {
            while self.line(side).is_waiting() {
                self.hear(side, None, sums, wishes);
                self.follow(sums, wishes);
            }
            let end = up_to.map_or(0, |[client, server]| if side == Side::Client { client } else { server });
            if self.line(side).is_behind(end) {
                let nothing = Words {
                    time_ns: self.last_ns,
                    position: end,
                    len: 0,
                    starts: false,
                    payload: &[],
                };
                self.hear(side, Some(&nothing), sums, wishes);
                self.follow(sums, wishes);
            }
        }
    }

    fn end(&mut self, up_to: Option<[u64; 2]>, sums: &mut Sums, wishes: &Wishes) {
        self.release(up_to, sums, wishes);
        if let Some(mut dialogue) = self.dialogue.take() {
            let mut ear = Ear {
                between: &self.between,
                counts: &mut self.counts,
                sums,
                wishes,
            };
            dialogue.end(&mut ear);
        }
    }

    /// Since the last time.
    fn passes_over(&mut self, socket: u64) -> Option<PassOver> {
        let [client, server] = self.bodies;
        let (sent, received) = match self.between.role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        let body = PassOver { socket, sent, received };
        std::mem::take(&mut self.passes_over).then_some(body)
    }

    fn take(&mut self) -> Option<Exchanges> {
        let Counts { classes, latency } = std::mem::take(&mut self.counts);
        if latency.count() == 0 {
            return None;
        }
        let Between {
            owner,
            netns,
            local,
            remote,
            role,
            protocol,
        } = self.between;
        Some(Exchanges {
            owner,
            netns,
            role,
            protocol,
            local,
            remote,
            actual: None,
            name: None,
            classes,
            latency,
        })
    }
}

/// `None`: it is for others to count.
fn dialogue(protocol: Protocol) -> Option<Box<dyn Dialogue>> {
    Some(match protocol {
        Protocol::Http => Box::new(Http::new()),
        Protocol::Redis => Box::new(Redis::new()),
        Protocol::Postgres => Box::new(Postgres::new()),
        Protocol::Memcached => Box::new(Memcached::new()),
        Protocol::Dns => return None,
    })
}

#[cfg(test)]
mod tests;
