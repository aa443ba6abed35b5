//! The kernel's half of the ledger: one row of counters per kind of news.

/// Kinds of news. They index the counters and stand in every record's header.
pub mod kind {
    /// A task was created. Threads and kernel threads are counted and not sent.
    pub const FORK: u16 = 0;
    pub const EXEC: u16 = 1;
    pub const EXIT: u16 = 2;
    /// A process was moved between cgroups of any hierarchy.
    pub const CGROUP_MOVE: u16 = 3;
    /// A cgroup of the unified hierarchy was made.
    pub const CGROUP_MADE: u16 = 4;
    pub const CGROUP_GONE: u16 = 5;
    pub const CONNECT_FAILED: u16 = 6;
    /// A connection has ended. Its beginning is no news: a totals pass shows it, or its end tells of both.
    pub const CLOSE: u16 = 7;
    pub const LISTEN: u16 = 8;
    pub const LISTEN_CLOSE: u16 = 9;
    /// The end of a connection that the other side had begun.
    pub const ACCEPTED_CLOSE: u16 = 10;
    /// A message to or from a name server.
    pub const DNS: u16 = 11;
    /// A part of a stream that user space has to make sense of.
    pub const SEGMENT: u16 = 12;
    /// The end of a connection on which requests were counted.
    pub const EXCHANGES: u16 = 13;
    pub const COUNT: u16 = 14;
}

/// As they appear in the label `kind`, indexed by kind.
pub const KIND_NAMES: [&str; kind::COUNT as usize] = [
    "process_started",
    "process_exec",
    "process_exited",
    "cgroup_moved",
    "cgroup_made",
    "cgroup_removed",
    "connection_failed",
    "connection_closed",
    "listen_opened",
    "listen_closed",
    "accepted_closed",
    "dns_message",
    "l7_segment",
    "l7_connection",
];

/// Columns of a row. `OBSERVED` is bumped before anything can fail; each event then ends in exactly one of the others.
pub mod column {
    pub const OBSERVED: usize = 0;
    /// Handed to the ring.
    pub const SENT: usize = 1;
    /// Left out on purpose: threads, cgroups of other hierarchies.
    pub const IGNORED: usize = 2;
    /// The ring was full; the totals pass or the spill maps deliver what it counted.
    pub const DEFERRED: usize = 3;
    /// The ring was full, and nothing else carries it.
    pub const LOST: usize = 4;
    /// Added up where it happened, on purpose, for the agent to read: nobody needs to hear of each.
    pub const SUMMED: usize = 5;
    pub const COUNT: usize = 6;
}

/// Value of the per-CPU array `COUNTERS`, which has one per kind.
pub type Row = [u64; column::COUNT];

/// Names of maps, as the object and the loader spell them.
pub mod map {
    pub const COUNTERS: &str = "COUNTERS";
    pub const NEWS: &str = "NEWS";
    pub const PAYLOAD: &str = "PAYLOAD";
    pub const SWITCHES: &str = "SWITCHES";
    pub const CONVERSATIONS: &str = "CONVERSATIONS";
    pub const TALKERS: &str = "TALKERS";
    pub const SPILLED_EXCHANGES: &str = "SPILLED_EXCHANGES";
    pub const ENDED_EXCHANGES: &str = "ENDED_EXCHANGES";
    pub const VERDICTS: &str = "VERDICTS";
    pub const WATCHED: &str = "WATCHED";
    pub const SOCKETS: &str = "SOCKETS";
    pub const YOUNG: &str = "YOUNG";
    pub const SPILLED_SOCKETS: &str = "SPILLED_SOCKETS";
    pub const SPILLED_SUMS: &str = "SPILLED_SUMS";
    pub const EPOCH: &str = "EPOCH";
    pub const LISTENERS: &str = "LISTENERS";
    pub const PARENTS: &str = "PARENTS";
    pub const DIRECT: &str = "DIRECT";
    pub const FILES_PASS: &str = "FILES_PASS";
}

/// Names of programs, as the object and the loader spell them.
pub mod program {
    pub const FORK: &str = "process_fork";
    pub const EXEC: &str = "process_exec";
    pub const EXIT: &str = "process_exit";
    pub const CGROUP_ATTACH: &str = "cgroup_attach";
    pub const CGROUP_MKDIR: &str = "cgroup_mkdir";
    pub const CGROUP_RMDIR: &str = "cgroup_rmdir";
    pub const TCP_STATE: &str = "tcp_state";
    pub const TCP_DESTROY: &str = "tcp_destroy";
    pub const CONNECT4: &str = "connect4";
    pub const CONNECT6: &str = "connect6";
    pub const TOTALS: &str = "totals";
    pub const TOTALS_OF_YOUNG: &str = "totals_of_young";
    pub const INVENTORY_LISTENERS: &str = "inventory_listeners";
    pub const INVENTORY_CONNECTIONS: &str = "inventory_connections";
    pub const INVENTORY_WAITING: &str = "inventory_waiting";
    pub const OPEN_FILES: &str = "open_files";
    pub const IO_SENT: &str = "io_sent";
    pub const IO_RECEIVED: &str = "io_received";
    pub const IO_SENT_EXIT: &str = "io_sent_exit";
    pub const IO_RECEIVED_EXIT: &str = "io_received_exit";
    /// The same hooks, for those who also want to know what is said.
    pub const L7_SENT: &str = "l7_sent";
    pub const L7_RECEIVED: &str = "l7_received";
    pub const L7_SENT_EXIT: &str = "l7_sent_exit";
    pub const L7_RECEIVED_EXIT: &str = "l7_received_exit";
    pub const L7_SENT_PAGE_EXIT: &str = "l7_sent_page_exit";
    pub const L7_UDP_SENT_EXIT: &str = "l7_udp_sent_exit";
    pub const L7_UDP_RECEIVED_EXIT: &str = "l7_udp_received_exit";
    pub const L7_UDP6_SENT_EXIT: &str = "l7_udp6_sent_exit";
    pub const L7_UDP6_RECEIVED_EXIT: &str = "l7_udp6_received_exit";
    pub const L7_TOTALS: &str = "l7_totals";
    pub const L7_TOTALS_OF_SLOTS: &str = "l7_totals_of_slots";
    pub const L7_DESTROY: &str = "l7_destroy";
    pub const IO_CONSUMED: &str = "io_consumed";
    /// Does nothing: the measure of the others.
    pub const EMPTY: &str = "empty";
}
