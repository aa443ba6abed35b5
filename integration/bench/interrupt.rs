//! Ctrl-C is an error like others, so that every guard is dropped on the way out.
use anyhow::{Result, ensure};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use tarsier_integration::Stopwatch;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    STOP.store(true, Relaxed);
}

pub(crate) fn catch() {
    #![expect(unsafe_code, reason = "std has no signal handlers")]
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

pub(crate) fn seen() -> bool {
    STOP.load(Relaxed)
}

pub(crate) fn check() -> Result<()> {
    ensure!(!seen(), "interrupted");
    Ok(())
}

pub(crate) fn pause(time: Duration) -> Result<()> {
    let watch = Stopwatch::start();
    while let Some(rest) = time.checked_sub(watch.elapsed()) {
        check()?;
        tarsier_integration::pause(rest.min(Duration::from_millis(50)));
    }
    check()
}
