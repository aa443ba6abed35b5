//! Ends the process when a thread hangs: systemd or the kubelet starts another, which is better than an agent that
//! looks alive. Says so to systemd's watchdog as well.
use crate::base::context::Ctx;
use libsystemd::daemon::{NotifyState, notify};
use slog::{Logger, crit, warn};
use std::{io::Write, sync::mpsc, time::Duration};

const EXIT_CODE: i32 = 3;

pub(super) struct Watchdog(mpsc::Sender<()>);

impl Watchdog {
    pub(super) fn stop(self) {
        tell_systemd(&[NotifyState::Stopping]);
        drop(self.0);
    }
}

/// Its own thread: all others are watched.
pub(super) fn start(ctx: Ctx, limit: Duration) -> Watchdog {
    let (stop, stopped) = mpsc::channel::<()>();
    let every = (limit / 4).clamp(Duration::from_millis(100), Duration::from_secs(5));
    let watch = move || {
        while matches!(stopped.recv_timeout(every), Err(mpsc::RecvTimeoutError::Timeout)) {
            let silent = ctx.pulses.silent(ctx.clock.monotonic_ns(), limit);
            let Some((thread, age)) = silent.first() else {
                tell_systemd(&[NotifyState::Watchdog]);
                continue;
            };
            end(&ctx.log, thread, *age);
        }
    };
    if std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(watch)
        .is_err()
    {
        // Without the thread its messages to systemd stay away, and systemd ends us.
        tell_systemd(&[NotifyState::Status("no watchdog thread".to_owned())]);
    }
    Watchdog(stop)
}

fn end(log: &Logger, thread: &str, age: Duration) {
    crit!(log, "a thread hangs, the agent ends to be started anew"; "thread" => thread.to_owned(),
        "elapsed_ms" => age.as_millis() as u64);
    // The log may hang with the thread; this line does not.
    let line = format!("tarsier: thread {thread} has hung for {} s, ending\n", age.as_secs());
    std::io::stderr().write_all(line.as_bytes()).ok();
    std::process::exit(EXIT_CODE);
}

pub(super) fn notify_ready(log: &Logger) {
    if let Err(error) = notify(false, &[NotifyState::Ready]) {
        warn!(log, "systemd was not told that the agent is ready"; "error" => %error);
    }
}

fn tell_systemd(states: &[NotifyState]) {
    // Without systemd there is nobody to tell.
    notify(false, states).ok();
}
