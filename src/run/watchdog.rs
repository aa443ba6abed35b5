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
    let mut wakefulness = Wakefulness::new(every, limit, ctx.clock.monotonic_ns());
    let watch = move || {
        while matches!(stopped.recv_timeout(every), Err(mpsc::RecvTimeoutError::Timeout)) {
            let now_ns = ctx.clock.monotonic_ns();
            let judges = wakefulness.judges(now_ns);
            let silent = ctx.pulses.silent(now_ns, limit);
            let Some((thread, age)) = silent.first().filter(|_| judges) else {
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

/// Late itself, this thread has no word on the others: the whole process was stopped, or had no CPU.
struct Wakefulness {
    late_ns: u64,
    limit_ns: u64,
    last_ns: u64,
    since_ns: u64,
}

impl Wakefulness {
    fn new(every: Duration, limit: Duration, now_ns: u64) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            late_ns: nanos(every.saturating_add(limit / 2)),
            limit_ns: nanos(limit),
            last_ns: now_ns,
            since_ns: 0,
        }
    }

    /// Whether it has been awake for as long as a thread may be silent.
    fn judges(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.last_ns) > self.late_ns {
            self.since_ns = now_ns;
        }
        self.last_ns = now_ns;
        now_ns.saturating_sub(self.since_ns) >= self.limit_ns
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_stop_everybody_has_the_whole_time_again() {
        let seconds = |n: u64| n * 1_000_000_000;
        let new = || Wakefulness::new(Duration::from_secs(5), Duration::from_secs(30), seconds(995));
        assert!(!new().judges(seconds(1060)), "stopped before it had ever looked");
        let mut wakefulness = new();
        assert!(wakefulness.judges(seconds(1000)));
        assert!(wakefulness.judges(seconds(1015)), "somewhat late is not stopped");
        let after: Vec<bool> = [1075, 1080, 1085, 1090, 1095, 1100, 1105, 1110]
            .map(|second| wakefulness.judges(seconds(second)))
            .to_vec();
        assert_eq!(after, [false, false, false, false, false, false, true, true]);
    }
}
