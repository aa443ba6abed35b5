//! The only place here that reads a clock or sleeps.
#![expect(clippy::disallowed_methods, reason = "waiting for processes of the real machine")]
use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Polls until `condition` holds.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(limit, what, || condition().then_some(()));
}

/// Polls until `probe` gives something.
#[track_caller]
pub fn eventually_some<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(watch.elapsed() < limit, "still not after {limit:?}: {what}");
        pause(Duration::from_millis(50));
    }
}

pub fn pause(time: Duration) {
    thread::sleep(time);
}

#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A port nobody has, below the ephemeral ones: those the agent leaves out.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes start at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok() && TcpListener::bind(("::", *port)).is_ok())
        .expect("ten thousand ports are not all taken")
}
