//! SQL, whole or cut off, of which no literal may be told.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::l7::{dialogue::Asked, postgres::sql::obfuscate};

fuzz_target!(|bytes: &[u8]| {
    let asked = obfuscate(bytes, false);
    assert!(asked.text.len() <= Asked::MAX_TEXT && asked.verb.chars().count() <= 32);
    // Quotes are told only around names.
    assert!(asked.text.contains('"') || !asked.text.contains('\''));
    assert!(asked.text.bytes().all(|byte| !byte.is_ascii_control()));
    let cut = obfuscate(&bytes[..bytes.len() / 2], true);
    assert!(cut.text.len() <= Asked::MAX_TEXT && cut.text.ends_with("..."));
    // A string is one literal, whatever is in it.
    let quoted: Vec<u8> = bytes
        .iter()
        .filter(|byte| !matches!(byte, b'\'' | b'\\'))
        .copied()
        .collect();
    let string = obfuscate(&[b"x = '".as_slice(), &quoted, b"' and y"].concat(), false);
    assert_eq!(&*string.text, "x = ? and y");
});
