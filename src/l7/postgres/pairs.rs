//! Which words of the server answer what. The table is in the module above.
use super::texts::Text;
use crate::{
    decode::UnparsedReason,
    l7::dialogue::{Exchange, Hearer, Side, Status, Unanswered},
};
use std::sync::Arc;

/// Of requests and ends of batches without an answer. A connection with more of them is given up.
const MAX_ENTRIES: usize = 4096;
/// More of them are as old as the last of those, so that the same ones are one entry: better a latency that is too long
/// than none.
const MAX_TIMES: usize = 2048;
/// Of more of them it is kept what they were about only if that is the same again.
const MAX_TEXTS: usize = 256;

#[derive(Clone, Debug, Default, PartialEq)]
enum Request {
    /// The first `ReadyForQuery` is its end.
    Login,
    Query(Text),
    Call(Text),
    Execute(Text),
    /// A `Sync` after a batch that executed nothing, but prepared something.
    Prepare(Text),
    /// A `Sync` that is nothing but the end.
    #[default]
    Sync,
}

impl Request {
    fn counts(&self) -> bool {
        !matches!(self, Self::Login | Self::Sync)
    }
}

/// What was asked since the last `Sync`.
#[derive(Default)]
struct Batch {
    /// Of what waits neither for an answer nor for its `Execute`, the first.
    asked_ns: Option<u64>,
    /// Since when something is prepared, and its first answer.
    prepares_ns: Option<u64>,
    prepared_ns: Option<u64>,
    executes: bool,
    /// The server was heard to end it before its `Sync` was.
    ended: bool,
}

impl Batch {
    fn is_open(&self) -> bool {
        self.executes || self.asked_ns.is_some() || self.prepares_ns.is_some()
    }
}

/// Of the first request that waits.
#[derive(Default)]
struct Reply {
    began_ns: Option<u64>,
    failed: bool,
    /// A part of it is missing, in which it may have failed.
    hole: Option<UnparsedReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    Replying,
    Unknown,
}

/// There are too many that wait.
pub(super) struct Crowded;

pub(super) struct Pairs {
    waiting: Unanswered<Request>,
    batch: Batch,
    /// Of the last `Execute`.
    last_text: Text,
    last_ns: u64,
    reply: Reply,
    /// An `Execute` that is done, but whose transaction may yet fail to commit.
    done: Option<(Exchange, Text)>,
    /// Since when the server passes over everything before the next `Sync`.
    skips_ns: Option<u64>,
    /// It takes data, and no notice of `Sync`.
    copies: bool,
    /// Of a `Sync` that came before that data.
    drops_sync: bool,
    /// Something was missed, so the first that waits may have been answered.
    doubt: Option<UnparsedReason>,
    spoke: Side,
    server: Standing,
}

impl Pairs {
    pub(super) fn new() -> Self {
        Self {
            waiting: Unanswered::default(),
            batch: Batch::default(),
            last_text: None,
            last_ns: 0,
            reply: Reply::default(),
            done: None,
            skips_ns: None,
            copies: false,
            drops_sync: false,
            doubt: None,
            spoke: Side::Client,
            server: Standing::Unknown,
        }
    }

    pub(super) fn expects_reply(&self) -> bool {
        !self.waiting.is_empty() || self.batch.asked_ns.is_some()
    }

    fn entries(&self) -> usize {
        self.waiting.entries()
    }

    pub(super) fn buffered(&self) -> usize {
        self.entries() * size_of::<(u64, Request, u32)>()
    }

    pub(super) fn log_in(&mut self, time_ns: u64) {
        self.waiting.push(time_ns, Request::Login);
    }

    pub(super) fn take_over(&mut self, pending: u32, asked_ns: u64) {
        self.waiting.push_many(asked_ns, Request::Query(None), pending);
    }

    /// A message of the client. `text`: what it asks for, or of a `Sync` what was prepared.
    pub(super) fn ask(&mut self, kind: u8, time_ns: u64, text: Text, hearer: &mut dyn Hearer) -> Result<(), Crowded> {
        let is_few = self.entries() < MAX_TEXTS;
        let text = text.filter(|text| is_few || self.last_text.as_ref().is_some_and(|last| Arc::ptr_eq(last, text)));
        if is_few && kind == b'E' {
            self.last_text.clone_from(&text);
        }
        match kind {
            b'Q' | b'F' => {
                self.begins(hearer);
                self.batch = Batch::default();
                let asked = if kind == b'Q' {
                    Request::Query(text)
                } else {
                    Request::Call(text)
                };
                self.push(time_ns, asked, hearer)
            }
            b'P' | b'B' | b'D' | b'C' => {
                self.begins(hearer);
                self.batch.asked_ns.get_or_insert(time_ns);
                if kind != b'C' {
                    self.batch.prepares_ns.get_or_insert(time_ns);
                }
                Ok(())
            }
            b'E' => {
                self.begins(hearer);
                self.batch.executes = true;
                let asked_ns = self.batch.asked_ns.take().unwrap_or(time_ns);
                self.push(asked_ns, Request::Execute(text), hearer)
            }
            b'S' if self.copies || std::mem::take(&mut self.batch.ended) => Ok(()),
            b'S' => {
                self.begins(hearer);
                self.sync(time_ns, text, hearer)
            }
            b'c' | b'f' => {
                self.copies = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sync(&mut self, time_ns: u64, text: Text, hearer: &mut dyn Hearer) -> Result<(), Crowded> {
        let batch = std::mem::take(&mut self.batch);
        match batch.prepares_ns.filter(|_| !batch.executes) {
            Some(asked_ns) => {
                if self.waiting.is_empty() {
                    self.reply.began_ns = batch.prepared_ns;
                }
                self.push(asked_ns, Request::Prepare(text), hearer)
            }
            None => self.push(time_ns, Request::Sync, hearer),
        }
    }

    fn push(&mut self, time_ns: u64, asked: Request, hearer: &mut dyn Hearer) -> Result<(), Crowded> {
        if self.entries() >= MAX_ENTRIES {
            let one = u64::from(asked.counts());
            self.give_up(UnparsedReason::Crowded, one, hearer);
            return Err(Crowded);
        }
        if self.entries() < MAX_TIMES {
            self.last_ns = time_ns;
        }
        self.waiting.push(self.last_ns.min(time_ns), asked);
        Ok(())
    }

    /// Most clients wait until the server is ready. So if it may be, then what it was asked before is over.
    fn begins(&mut self, hearer: &mut dyn Hearer) {
        self.batch.ended = false;
        let turns = std::mem::replace(&mut self.spoke, Side::Client) == Side::Server;
        if !self.batch.is_open() {
            self.copies = false;
        }
        if turns
            && self.server != Standing::Replying
            && let Some(reason) = self.doubt
        {
            self.give_up(reason, 0, hearer);
        }
    }

    /// A message of the server.
    pub(super) fn reply(&mut self, kind: u8, time_ns: u64, hearer: &mut dyn Hearer) {
        if matches!(kind, b'N' | b'S' | b'A' | b'R' | b'K' | b'v') {
            return;
        }
        self.spoke = Side::Server;
        self.server = if kind == b'Z' {
            Standing::Ready
        } else {
            Standing::Replying
        };
        match kind {
            b'Z' => self.ready(time_ns, hearer),
            b'E' => self.fail(time_ns, hearer),
            b'1' | b'2' | b'3' | b't' | b'T' | b'n' => self.step(time_ns),
            _ => self.result(kind, time_ns, hearer),
        }
    }

    /// What the server says is not sure to be a reply.
    pub(super) fn murmurs(&mut self) {
        self.spoke = Side::Server;
        if self.server == Standing::Replying {
            self.server = Standing::Unknown;
        }
    }

    /// It may be an answer to what comes before an `Execute`.
    fn step(&mut self, time_ns: u64) {
        match self.waiting.front() {
            None => {
                if self.batch.asked_ns.take().is_some() {
                    self.batch.prepared_ns.get_or_insert(time_ns);
                }
            }
            Some((_, Request::Login | Request::Sync)) => {}
            Some((_, Request::Prepare(_))) => {
                self.reply.began_ns.get_or_insert(time_ns);
                self.reply.hole = None;
            }
            Some(_) => {
                self.reply.began_ns.get_or_insert(time_ns);
            }
        }
    }

    /// Only what was executed is answered so.
    fn result(&mut self, kind: u8, time_ns: u64, hearer: &mut dyn Hearer) {
        if self.reply.failed || self.skips_ns.is_some() {
            // So the end of what has failed was missed.
            self.settle(time_ns, hearer);
        }
        while self.waiting.len() > 1 && matches!(self.waiting.front(), Some((_, Request::Sync))) {
            self.tell_done(hearer);
            self.waiting.pop();
        }
        let ends = matches!(kind, b'C' | b'I' | b's' | b'V');
        let executes = match self.waiting.front() {
            None | Some((_, Request::Login | Request::Sync | Request::Prepare(_))) => return,
            Some((_, Request::Query(_) | Request::Call(_))) => false,
            Some((_, Request::Execute(_))) => true,
        };
        let replied_ns = *self.reply.began_ns.get_or_insert(time_ns);
        if matches!(kind, b'G' | b'W') {
            self.copies = true;
            self.drops_sync = executes && self.waiting.len() > 1;
        }
        if !ends {
            return;
        }
        self.copies = false;
        self.reply.hole = None;
        if !executes {
            return;
        }
        self.tell_done(hearer);
        self.reply = Reply::default();
        if let Some((asked_ns, Request::Execute(text))) = self.waiting.pop() {
            self.done = Some((exchange(asked_ns, replied_ns, Status::Ok), text));
        }
        self.drop_sync();
    }

    fn drop_sync(&mut self) {
        if std::mem::take(&mut self.drops_sync) && matches!(self.waiting.front(), Some((_, Request::Sync))) {
            self.waiting.pop();
        }
    }

    fn fail(&mut self, time_ns: u64, hearer: &mut dyn Hearer) {
        self.copies = false;
        match self.waiting.front() {
            // Nobody asked: the server says goodbye.
            None if self.batch.asked_ns.is_none() => {}
            Some((_, Request::Login)) => {}
            Some((_, Request::Query(_) | Request::Call(_))) => {
                self.tell_done(hearer);
                self.reply.began_ns.get_or_insert(time_ns);
                self.reply.failed = true;
            }
            Some((_, Request::Sync)) => {
                if let Some((exchange, _)) = &mut self.done {
                    exchange.status = Status::Failed;
                }
            }
            None | Some((_, Request::Execute(_) | Request::Prepare(_))) => {
                self.tell_done(hearer);
                self.reply.began_ns.get_or_insert(time_ns);
                self.skips_ns.get_or_insert(time_ns);
            }
        }
    }

    fn ready(&mut self, time_ns: u64, hearer: &mut dyn Hearer) {
        self.settle(time_ns, hearer);
        if self.waiting.is_empty() {
            self.doubt = None;
        }
    }

    /// The first batch, query or call that waits is over.
    fn settle(&mut self, time_ns: u64, hearer: &mut dyn Hearer) {
        self.copies = false;
        self.tell_done(hearer);
        let skips_ns = self.skips_ns.take();
        let mut reply = std::mem::take(&mut self.reply);
        loop {
            let Some((asked_ns, asked)) = self.waiting.pop() else {
                // In doubt it may be the end of something older.
                if self.doubt.is_none() {
                    self.settle_batch(skips_ns, time_ns, hearer);
                }
                break;
            };
            let reply = std::mem::take(&mut reply);
            let (text, ends) = match asked {
                Request::Login | Request::Sync => break,
                Request::Query(text) | Request::Call(text) => (text, skips_ns.is_none()),
                Request::Prepare(text) => (text, true),
                Request::Execute(text) => (text, false),
            };
            let failed_ns = skips_ns.map(|skips_ns| if skips_ns < asked_ns { time_ns } else { skips_ns });
            let replied_ns = reply.began_ns.or(failed_ns).unwrap_or(time_ns);
            let unknown = reply.hole.or_else(|| {
                // Without a result of its own.
                (!ends).then(|| self.doubt.unwrap_or(UnparsedReason::Gap))
            });
            match unknown {
                _ if failed_ns.is_some() || reply.failed => {
                    tell(exchange(asked_ns, replied_ns, Status::Failed), text, hearer);
                }
                Some(reason) => hearer.unparsed(reason, 1),
                None => tell(exchange(asked_ns, replied_ns, Status::Ok), text, hearer),
            }
            if ends {
                break;
            }
        }
        self.drop_sync();
    }

    /// One whose `Sync` was not heard yet.
    fn settle_batch(&mut self, skips_ns: Option<u64>, time_ns: u64, hearer: &mut dyn Hearer) {
        let batch = std::mem::take(&mut self.batch);
        self.batch.ended = batch.is_open();
        if let Some(asked_ns) = batch.prepares_ns
            && !batch.executes
        {
            let status = if skips_ns.is_some() { Status::Failed } else { Status::Ok };
            let replied_ns = batch.prepared_ns.or(skips_ns).unwrap_or(time_ns);
            tell(exchange(asked_ns, replied_ns, status), None, hearer);
        }
    }

    fn tell_done(&mut self, hearer: &mut dyn Hearer) {
        if let Some((exchange, text)) = self.done.take() {
            tell(exchange, text, hearer);
        }
    }

    /// What one side says now follows on something that nobody heard. `more`: on something else before.
    pub(super) fn missed(&mut self, side: Side, reason: UnparsedReason, more: bool, hearer: &mut dyn Hearer) {
        self.doubt = Some(reason);
        match side {
            Side::Client => {
                self.batch = Batch::default();
                if !more {
                    hearer.unparsed(reason, 1);
                }
            }
            Side::Server => {
                self.tell_done(hearer);
                self.reply.hole = Some(reason);
                self.spoke = Side::Server;
                self.server = Standing::Unknown;
            }
        }
        self.copies = false;
    }

    /// No answer to what waits can be told any more. `more`: that many besides.
    pub(super) fn give_up(&mut self, reason: UnparsedReason, more: u64, hearer: &mut dyn Hearer) {
        self.tell_done(hearer);
        if let Some(time_ns) = self.skips_ns.or(self.reply.began_ns)
            && (self.reply.failed || self.skips_ns.is_some())
            && !self.waiting.is_empty()
        {
            self.settle(time_ns, hearer);
        }
        let mut lost = more;
        while let Some((_, asked)) = self.waiting.pop() {
            lost += u64::from(asked.counts());
        }
        self.reply = Reply::default();
        self.skips_ns = None;
        self.drops_sync = false;
        if lost > 0 {
            hearer.unparsed(reason, lost);
        }
    }
}

fn exchange(asked_ns: u64, replied_ns: u64, status: Status) -> Exchange {
    Exchange {
        asked_ns,
        replied_ns: replied_ns.max(asked_ns),
        status,
        asked: None,
    }
}

fn tell(mut exchange: Exchange, text: Text, hearer: &mut dyn Hearer) {
    if hearer.watches() {
        exchange.asked = text.map(|asked| (*asked).clone());
    }
    hearer.exchanged(exchange);
}
