//! Addresses in the answer section: of the name that was asked for, or of what that is an alias of. Others may stand there
//! too, and say nothing about the question.
use super::{
    message::{CLASS_IN, ParseError, Reader},
    name::{self, Name},
};
use std::net::IpAddr;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// From alias to alias.
const MAX_LINKS: usize = 16;
/// Aliases in a message, in a chain or not.
const MAX_ALIASES: usize = 64;
/// The largest services give a few dozen.
const MAX_ADDRESSES: usize = 128;
/// That are looked at: a server that sends more means no good.
const MAX_RECORDS: u16 = 1024;

enum Data {
    Address(IpAddr),
    Alias(Name),
    Other,
}

struct Record {
    name: Name,
    data: Data,
}

impl Record {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let name = name::read(reader)?;
        let kind = reader.u16()?;
        let class = reader.u16()?;
        // How long it may be kept.
        reader.bytes(4)?;
        let len = usize::from(reader.u16()?);
        let mut inside = *reader;
        let data = reader.bytes(len)?;
        let data = match kind {
            _ if class != CLASS_IN => Data::Other,
            A => Data::Address(
                <[u8; 4]>::try_from(data)
                    .map_err(|_length| ParseError::Malformed)?
                    .into(),
            ),
            AAAA => Data::Address(
                <[u8; 16]>::try_from(data)
                    .map_err(|_length| ParseError::Malformed)?
                    .into(),
            ),
            CNAME => {
                let target = name::read(&mut inside)?;
                if inside.at() != reader.at() {
                    return Err(ParseError::Malformed);
                }
                Data::Alias(target)
            }
            _ => Data::Other,
        };
        Ok(Self { name, data })
    }
}

/// The reader stands at the first of `count` records. Of a cut message those that are whole.
pub(super) fn addresses(reader: Reader<'_>, count: u16, asked: &Name, cut: bool) -> Result<Vec<IpAddr>, ParseError> {
    let mut aliases = Vec::new();
    let mut addresses = Vec::new();
    let mut records = reader;
    let mut whole = 0;
    for _ in 0..count.min(MAX_RECORDS) {
        let record = match Record::read(&mut records) {
            Ok(record) => record,
            Err(ParseError::Short) if cut => break,
            Err(error) => return Err(error),
        };
        whole += 1;
        match record.data {
            Data::Address(address) if record.name == *asked && addresses.len() < MAX_ADDRESSES => {
                addresses.push(address)
            }
            Data::Alias(target) if aliases.len() < MAX_ALIASES => aliases.push((record.name, target)),
            Data::Address(_) | Data::Alias(_) | Data::Other => {}
        }
    }
    let names = chain(asked, &aliases);
    if names.len() == 1 {
        return Ok(addresses);
    }
    // Only now is it known which other names are the same host's.
    addresses.clear();
    let mut records = reader;
    for _ in 0..whole {
        let record = Record::read(&mut records)?;
        if let Data::Address(address) = record.data
            && names.contains(&&record.name)
            && addresses.len() < MAX_ADDRESSES
        {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The name, what it is an alias of, and so on, in whatever order they stand.
fn chain<'a>(asked: &'a Name, aliases: &'a [(Name, Name)]) -> Vec<&'a Name> {
    let mut names = vec![asked];
    let mut last = asked;
    while names.len() <= MAX_LINKS
        && let Some((_, target)) = aliases.iter().find(|(name, _)| name == last)
    {
        last = target;
        names.push(last);
    }
    names
}
