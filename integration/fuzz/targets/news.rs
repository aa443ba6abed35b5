//! Records of the ring, rows of the passes and of the spill maps.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::{
    decode,
    tracer::{batch::decode_batch, kernel::RawBatch},
};

fuzz_target!(|bytes: &[u8]| {
    decode::news(bytes).ok();
    let raw = RawBatch {
        news: bytes.to_vec(),
        seen: bytes.to_vec(),
        spilled_sockets: bytes.to_vec(),
        spilled_sums: bytes.to_vec(),
        files: bytes.to_vec(),
    };
    let (_, counts, malformed) = decode_batch(&raw);
    assert!(malformed.total() <= counts.total());
});
