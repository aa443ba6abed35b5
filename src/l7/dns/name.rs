//! Names of a message: labels, each behind its length, or a pointer to where the rest of them stands.
use super::message::{ParseError, Reader};

/// Labels with their lengths, the empty one at the end included.
const MAX_WIRE_LEN: usize = 255;
/// One after the other, in one name. Servers write one, or a few.
const MAX_POINTERS: usize = 32;
const POINTER: u8 = 0xc0;

/// As it stands in a message, in small letters and without pointers: what is the same name is the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(Box<[u8]>);

impl Name {
    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }
}

struct Writer {
    bytes: [u8; MAX_WIRE_LEN],
    len: usize,
}

impl Writer {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        let end = self.len + bytes.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(ParseError::Malformed)?;
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = from.to_ascii_lowercase();
        }
        self.len = end;
        Ok(())
    }

    fn done(&self) -> Name {
        Name(self.bytes.get(..self.len).unwrap_or_default().into())
    }
}

/// The reader stands behind the name then, wherever pointers led.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Name, ParseError> {
    let mut name = Writer {
        bytes: [0; MAX_WIRE_LEN],
        len: 0,
    };
    let mut part = *reader;
    // A pointer leads to where nothing has been read of this name: it ends, whatever stands there.
    let mut lowest = part.at();
    let mut pointers = 0;
    loop {
        let length = part.byte()?;
        match length & POINTER {
            0 => {
                let label = part.bytes(usize::from(length))?;
                // At most 63, so the length has no letter in it to make small.
                name.push(&[length])?;
                name.push(label)?;
            }
            POINTER => {
                let target = usize::from(length & !POINTER) << 8 | usize::from(part.byte()?);
                if pointers == 0 {
                    *reader = part;
                }
                pointers += 1;
                if target >= lowest || target < super::message::HEADER_LEN || pointers > MAX_POINTERS {
                    return Err(ParseError::Malformed);
                }
                lowest = target;
                part = part.moved(target);
                continue;
            }
            _ => return Err(ParseError::Malformed),
        }
        if length == 0 {
            break;
        }
    }
    if pointers == 0 {
        *reader = part;
    }
    Ok(name.done())
}

/// With dots between the labels. `None`: the root, or a label has a dot in it, so that the text would be another name.
pub(super) fn text(wire: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        if label.contains(&b'.') {
            return None;
        }
        if !text.is_empty() {
            text.push(b'.');
        }
        text.extend_from_slice(label);
        rest = after;
    }
    (!text.is_empty()).then_some(text)
}

pub(super) fn is_root(wire: &[u8]) -> bool {
    wire == [0]
}
