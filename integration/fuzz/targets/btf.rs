//! The kernel's type information, damaged.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::tracer::btf::Btf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes.to_vec(), |_| true) {
        btf.offset("sock", "sk_protocol").ok();
        btf.tracepoint_args("sched_process_exit");
    }
});
