//! Writes messages. Knows nothing of how they are read.
use std::net::IpAddr;

pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const IN: u16 = 1;

pub(super) const ANSWER: u16 = 0x8180;
pub(super) const QUESTION: u16 = 0x0100;
pub(super) const TRUNCATED: u16 = 0x0200;

#[derive(Clone, Debug)]
pub(super) enum Data {
    Address(IpAddr),
    Alias(Vec<Vec<u8>>),
    Text(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) name: Vec<Vec<u8>>,
    pub(super) data: Data,
}

pub(super) fn labels(name: &str) -> Vec<Vec<u8>> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.map(|label| label.as_bytes().to_vec()).collect()
}

pub(super) fn address(name: &str, ip: &str) -> Record {
    Record {
        name: labels(name),
        data: Data::Address(ip.parse().unwrap()),
    }
}

pub(super) fn alias(name: &str, target: &str) -> Record {
    Record {
        name: labels(name),
        data: Data::Alias(labels(target)),
    }
}

pub(super) struct Encoder {
    bytes: Vec<u8>,
    compress: bool,
    /// Names that were written, and where.
    written: Vec<(Vec<Vec<u8>>, usize)>,
}

impl Encoder {
    pub(super) fn new(id: u16, flags: u16, compress: bool) -> Self {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0; 8]);
        Self {
            bytes,
            compress,
            written: Vec::new(),
        }
    }

    fn count(&mut self, at: usize) {
        let count = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]) + 1;
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn name(&mut self, labels: &[Vec<u8>]) {
        for begin in 0..labels.len() {
            let rest = &labels[begin..];
            let known = self.written.iter().find(|(name, _)| name == rest);
            if let Some((_, at)) = known.filter(|_| self.compress) {
                let pointer = 0xc000 | *at as u16;
                return self.u16(pointer);
            }
            if self.bytes.len() < 0x4000 {
                self.written.push((rest.to_vec(), self.bytes.len()));
            }
            self.bytes.push(rest[0].len() as u8);
            self.bytes.extend(&rest[0]);
        }
        self.bytes.push(0);
    }

    pub(super) fn question(mut self, name: &[Vec<u8>], kind: u16, class: u16) -> Self {
        self.count(4);
        self.name(name);
        self.u16(kind);
        self.u16(class);
        self
    }

    pub(super) fn record(mut self, record: &Record) -> Self {
        self.count(6);
        self.any_record(record, IN);
        self
    }

    pub(super) fn additional(mut self, record: &Record) -> Self {
        self.count(10);
        self.any_record(record, IN);
        self
    }

    pub(super) fn record_of_class(mut self, record: &Record, class: u16) -> Self {
        self.count(6);
        self.any_record(record, class);
        self
    }

    fn any_record(&mut self, record: &Record, class: u16) {
        self.name(&record.name);
        self.u16(match &record.data {
            Data::Address(IpAddr::V4(_)) => A,
            Data::Address(IpAddr::V6(_)) => AAAA,
            Data::Alias(_) => CNAME,
            Data::Text(_) => TXT,
        });
        self.u16(class);
        self.bytes.extend(60u32.to_be_bytes());
        let at = self.bytes.len();
        self.u16(0);
        match &record.data {
            Data::Address(IpAddr::V4(ip)) => self.bytes.extend(ip.octets()),
            Data::Address(IpAddr::V6(ip)) => self.bytes.extend(ip.octets()),
            Data::Alias(target) => self.name(target),
            Data::Text(text) => self.bytes.extend(text),
        }
        let len = (self.bytes.len() - at - 2) as u16;
        self.bytes[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.bytes
    }
}

pub(super) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    Encoder::new(id, QUESTION, true)
        .question(&labels(name), kind, IN)
        .done()
}

pub(super) fn answer(id: u16, code: u16, name: &str, kind: u16, records: &[Record]) -> Vec<u8> {
    let begin = Encoder::new(id, ANSWER | code, true).question(&labels(name), kind, IN);
    records
        .iter()
        .fold(begin, |message, record| message.record(record))
        .done()
}
