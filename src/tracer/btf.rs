//! Byte offsets of structure fields, from the running kernel's BTF. aya keeps its own type table private.
#![deny(clippy::indexing_slicing)]
use std::{collections::HashMap, io, path::Path};

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const PTR: u32 = 2;
const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("not BTF, or cut short at byte {at}")]
    Malformed { at: usize },
    #[error("BTF kind {kind} is not known")]
    UnknownKind { kind: u32 },
    #[error("the kernel has no {structure}.{field}")]
    NoField { structure: String, field: String },
}

pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Where each type's record begins; type 0 is void.
    types: Vec<u32>,
    /// Structures and typedefs by name.
    named: HashMap<String, usize>,
}

impl Btf {
    pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        let data = std::fs::read(path).map_err(|source| BtfError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(data, |name| {
            let mut fields = tarsier_common::FIELDS.iter().chain(&tarsier_common::MPTCP_FIELDS);
            fields.any(|(structure, _)| *structure == name) || name == "pt_regs" || name.starts_with("btf_trace_")
        })
    }

    /// Remembers the names that `wanted` picks: a kernel has tens of thousands of others.
    pub fn parse(data: Vec<u8>, wanted: impl Fn(&str) -> bool) -> Result<Self, BtfError> {
        let mut btf = Self {
            data,
            strings: 0,
            types: vec![0],
            named: HashMap::new(),
        };
        if btf.word(0)? & 0xffff != 0xeb9f {
            return Err(BtfError::Malformed { at: 0 });
        }
        let header = btf.word(4)? as usize;
        let types = btf.word(8)? as usize;
        let types_len = btf.word(12)? as usize;
        btf.strings = header.saturating_add(btf.word(16)? as usize);
        let mut at = header.saturating_add(types);
        let end = at.saturating_add(types_len);
        while at < end {
            let (kind, members) = btf.kind(at)?;
            if kind == STRUCT || kind == TYPEDEF {
                let name = btf.name(at)?;
                if wanted(&name) {
                    btf.named.insert(name, at);
                }
            }
            btf.types.push(at as u32);
            at += 12
                + match kind {
                    STRUCT | UNION | 15 | 19 => 12 * members,
                    3 => 12,
                    6 | FUNC_PROTO => 8 * members,
                    1 | 14 | 17 => 4,
                    2 | 7..=12 | 16 | 18 => 0,
                    _ => return Err(BtfError::UnknownKind { kind }),
                };
        }
        Ok(btf)
    }

    /// In bytes.
    pub fn offset(&self, structure: &str, field: &str) -> Result<u32, BtfError> {
        Ok(self.bit(structure, field)? / 8)
    }

    /// In bits: of a flag that shares its byte.
    pub fn bit(&self, structure: &str, field: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoField {
            structure: structure.to_owned(),
            field: field.to_owned(),
        };
        let at = self.named.get(structure).ok_or_else(missing)?;
        self.find(*at, field, 0)?.ok_or_else(missing)
    }

    /// How many arguments a tracepoint hands to its programs.
    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        let typedef = *self.named.get(&format!("btf_trace_{name}"))?;
        let pointer = self.target(typedef)?;
        let proto = self.target(pointer)?;
        let (kind, arguments) = self.kind(proto).ok()?;
        // The first one is the context of whoever registered.
        (self.kind(pointer).ok()?.0 == PTR && kind == FUNC_PROTO).then(|| arguments.saturating_sub(1))
    }

    fn target(&self, at: usize) -> Option<usize> {
        self.types.get(self.word(at + 8).ok()? as usize).map(|at| *at as usize)
    }

    /// In bits. Looks into anonymous members too.
    fn find(&self, at: usize, field: &str, depth: u32) -> Result<Option<u32>, BtfError> {
        let (_, members) = self.kind(at)?;
        for i in 0..members {
            let member = at + 12 + 12 * i;
            let name = self.name(member)?;
            let offset = self.word(member + 8)?;
            // The upper byte is the width, where the structure has fields of bits.
            let offset = if self.word(at + 4)? >> 31 == 1 {
                offset & 0xff_ffff
            } else {
                offset
            };
            if name == field {
                return Ok(Some(offset));
            }
            let Some(inner) = self.types.get(self.word(member + 4)? as usize).map(|at| *at as usize) else {
                return Err(BtfError::Malformed { at: member });
            };
            if !name.is_empty() || inner == 0 || depth > 8 || !matches!(self.kind(inner)?.0, STRUCT | UNION) {
                continue;
            }
            if let Some(found) = self.find(inner, field, depth + 1)? {
                return Ok(Some(offset + found));
            }
        }
        Ok(None)
    }

    /// A type's kind and how many members it has.
    fn kind(&self, at: usize) -> Result<(u32, usize), BtfError> {
        let info = self.word(at + 4)?;
        Ok((info >> 24 & 0x1f, (info & 0xffff) as usize))
    }

    fn name(&self, at: usize) -> Result<String, BtfError> {
        let from = self.strings.saturating_add(self.word(at)? as usize);
        let name = self.data.get(from..).ok_or(BtfError::Malformed { at: from })?;
        let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Ok(String::from_utf8_lossy(name.get(..len).unwrap_or(name)).into_owned())
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = self.data.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes
            .map(|bytes| u32::from_le_bytes(*bytes))
            .ok_or(BtfError::Malformed { at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hint::black_box;

    /// A kernel of one structure: `struct s { u32 a; struct { u32 b; }; }`.
    fn small() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0u32\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([7, 1 << 24, 4, 32]); // 1: u32
        types.extend([0, STRUCT << 24 | 1, 4, 5, 1, 0]); // 2: anonymous, b at 0
        types.extend([1, STRUCT << 24 | 2, 8, 3, 1, 0, 0, 2, 32]); // 3: s
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut data = Vec::new();
        data.extend(0x1_eb9f_u32.to_le_bytes());
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            data.extend(word.to_le_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn finds_fields_of_anonymous_members() {
        let btf = Btf::parse(small(), |_| true).unwrap();
        assert_eq!(btf.offset("s", "a").unwrap(), 0);
        assert_eq!((btf.offset("s", "b").unwrap(), btf.bit("s", "b").unwrap()), (4, 32));
        assert!(matches!(btf.offset("s", "c"), Err(BtfError::NoField { .. })));
        assert!(matches!(btf.offset("t", "a"), Err(BtfError::NoField { .. })));
    }

    #[test]
    fn refuses_what_is_cut_short() {
        let whole = small();
        for len in 0..60 {
            assert!(
                Btf::parse(whole.iter().copied().take(len).collect(), |_| true).is_err(),
                "{len}"
            );
        }
    }

    proptest! {
        #[test]
        fn survives_any_bytes(data in prop::collection::vec(any::<u8>(), 0..400), flip in 0usize..100, value: u8) {
            drop(Btf::parse(data, |_| true));
            let mut damaged = small();
            let at = flip % damaged.len();
            damaged[at] = value;
            if let Ok(btf) = Btf::parse(damaged, |_| true) {
                drop(btf.offset("s", "b"));
                black_box(btf.tracepoint_args("s"));
            }
        }
    }
}
