/// Why a socket left the kernel lane, or never was in it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A request began before the last one was answered.
    Overlap = 1,
    /// One segment holds the end of a request and more.
    Overrun,
    /// One segment holds several requests.
    Pipelined,
    /// A body whose length is not told in the head (chunked).
    NoLength,
    /// The head does not end within `HEAD_BYTES` or within the segment.
    LongHead,
    /// A header is split between segments or lies beyond `HEAD_BYTES`.
    Cut,
    /// More headers in one segment than the walk may take.
    TooMany,
    /// A reply nobody asked for.
    Unasked,
    /// A reply while the request is still arriving.
    Early,
    /// Bytes where a request, or a reply, should begin.
    NotARequest,
    NotAReply,
    /// A reply of unknown length among pipelined ones.
    Aggregate,
    /// A reply that does not end with its segment, where its end tells what became of the request.
    LongReply,
    /// A request that is not answered as others are: a subscription, a prepared statement, one with an interim reply.
    Special,
    /// HTTP's CONNECT: what follows is something else.
    Connect,
    /// The bytes were not to be had (sendfile, io_uring) where they were needed.
    Blind,
    /// Two threads were in the hooks for this socket at once.
    Contended,
    /// It is not to be counted in the kernel: the configuration says so, or somebody watches.
    Configured,
}

pub const REASONS: usize = Reason::Configured as usize + 1;

/// As they appear in the label `reason`, indexed by `Reason`.
pub const REASON_NAMES: [&str; REASONS] = [
    "",
    "overlap",
    "overrun",
    "pipelined",
    "no_length",
    "long_head",
    "cut",
    "too_many",
    "unasked",
    "early",
    "not_a_request",
    "not_a_reply",
    "aggregate",
    "long_reply",
    "special",
    "connect",
    "blind",
    "contended",
    "configured",
];
