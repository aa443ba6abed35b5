//! A recording that somebody sent us.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::{
    cli::replay::replay,
    recording::{MAGIC, Reader},
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut frames) = Reader::new([MAGIC, bytes].concat().as_slice()) {
        while let Ok(Some(_)) = frames.next_frame() {}
    }
    replay(bytes).ok();
});
