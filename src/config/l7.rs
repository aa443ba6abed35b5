use super::ByteSize;
use serde::{Deserialize, Serialize};
use tarsier_common::DNS_PORTS;

/// What processes say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct L7 {
    /// Questions to name servers, and their answers.
    pub dns: bool,
    /// Where name servers listen.
    pub dns_ports: Vec<u16>,
    pub ring_bytes: ByteSize,
}

impl L7 {
    /// As the programs take them: zero is nobody's port. Further ones than fit are refused with the configuration.
    pub fn ports(&self) -> [u16; DNS_PORTS] {
        let mut ports = [0; DNS_PORTS];
        ports.iter_mut().zip(&self.dns_ports).for_each(|(to, port)| *to = *port);
        ports
    }
}

impl Default for L7 {
    fn default() -> Self {
        Self {
            dns: true,
            dns_ports: vec![53],
            ring_bytes: ByteSize(4 << 20),
        }
    }
}
