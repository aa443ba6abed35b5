//! A recording that somebody sent us.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tarsier::{
    cli::replay::replay,
    recording::{MAGIC, Reader},
};

/// Up to its first batch: that is what most of them begin with.
static BEGIN: LazyLock<&[u8]> = LazyLock::new(|| {
    let recording = include_bytes!("../../recordings/kinds/older.rec");
    let (_, rest) = recording.split_at(MAGIC.len() + 1);
    let (len, _) = rest.split_first_chunk().expect("a frame has a length");
    &recording[..MAGIC.len() + 5 + u32::from_le_bytes(*len) as usize]
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut frames) = Reader::new([MAGIC, bytes].concat().as_slice()) {
        while let Ok(Some(_)) = frames.next_frame() {}
    }
    replay([*BEGIN, bytes].concat().as_slice()).ok();
});
