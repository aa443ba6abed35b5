use super::{ByteSize, Pattern};
use serde::{Deserialize, Serialize};
use tarsier_common::{
    DNS_PORTS,
    exchange::{self, protocol},
};

/// What processes say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct L7 {
    /// Questions to name servers, and their answers.
    pub dns: bool,
    /// Where name servers listen.
    pub dns_ports: Vec<u16>,
    /// HTTP/1.x.
    pub http: bool,
    /// Targets of requests, with their queries, that are not counted.
    pub http_leave_out: Vec<Pattern>,
    pub redis: bool,
    pub postgres: bool,
    pub memcached: bool,
    /// Counts in the kernel what is simple enough; off, all of it is read.
    pub kernel_lane: bool,
    pub ring_bytes: ByteSize,
}

impl L7 {
    /// As the programs take them: zero is nobody's port. Further ones than fit are refused with the configuration.
    pub fn ports(&self) -> [u16; DNS_PORTS] {
        let mut ports = [0; DNS_PORTS];
        ports.iter_mut().zip(&self.dns_ports).for_each(|(to, port)| *to = *port);
        ports
    }

    /// Those on TCP connections: a bit for each.
    pub fn protocols(&self) -> u32 {
        let bit = |on: bool, protocol: u8| u32::from(on) << protocol;
        bit(self.http, protocol::HTTP)
            | bit(self.redis, protocol::REDIS)
            | bit(self.postgres, protocol::POSTGRES)
            | bit(self.memcached, protocol::MEMCACHED)
    }

    /// Those of them that the kernel may count: it sees no more than a status of what would have to be left out.
    pub fn countable(&self) -> u32 {
        if !self.kernel_lane {
            return 0;
        }
        let unseen = u32::from(!self.http_leave_out.is_empty()) << protocol::HTTP;
        self.protocols() & exchange::COUNTABLE & !unseen
    }
}

impl Default for L7 {
    fn default() -> Self {
        Self {
            dns: true,
            dns_ports: vec![53],
            http: true,
            http_leave_out: Vec::new(),
            redis: true,
            postgres: true,
            memcached: true,
            kernel_lane: true,
            ring_bytes: ByteSize(4 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_left_out_is_not_counted_unseen() {
        let all = L7::default();
        assert_eq!((all.protocols(), all.countable()), (0b1_1110, 0b1110));
        let left_out = L7 {
            http_leave_out: vec!["^/health".parse().unwrap()],
            redis: false,
            ..L7::default()
        };
        assert_eq!((left_out.protocols(), left_out.countable()), (0b1_1010, 0b1000));
        let read = L7 {
            kernel_lane: false,
            ..L7::default()
        };
        assert_eq!(read.countable(), 0);
    }
}
