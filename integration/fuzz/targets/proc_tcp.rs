//! Lines of /proc/net/tcp and tcp6.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::collect::sockets::table::line;

fuzz_target!(|bytes: &[u8]| {
    for text in bytes.split(|&byte| byte == b'\n') {
        line(text, false);
        line(text, true);
    }
});
