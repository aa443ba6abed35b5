//! What the kernel tells of sockets, damaged.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::collect::sockets::{
    Role,
    diag::{Message, messages},
};

fuzz_target!(|bytes: &[u8]| {
    for message in messages(bytes, 0) {
        if let Message::Socket(seen) = message {
            let role = seen.opened().unwrap_or(Role::Client);
            seen.traffic(role);
        }
    }
});
