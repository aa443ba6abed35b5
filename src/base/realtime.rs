//! Time for one thread on a node whose processors are all taken.
//!
//! The scheduler divides processors among groups of threads: pods, services, sessions. Where many groups want one, a thread
//! that needs a fiftieth of a processor may wait for it a second and more, and what the kernel tells it is lost meanwhile.
//! Of real-time priority it does not wait; and since nobody else could go on if such a thread had no end of work, it has
//! that priority for a share of a processor only, and beyond that its turn like everybody.
#![expect(unsafe_code, reason = "a system call that rustix does not offer")]
use rustix::time::{ClockId, clock_gettime};
use std::{io, time::Duration};

/// What one thread may use with priority: an account that fills with time and is drawn on with the processor's. Belongs to the
/// thread that calls it.
#[derive(Debug)]
pub struct Share {
    percent: u64,
    /// Less than nothing after a piece of work that was longer than what was there.
    left_ns: i64,
    filled_ns: u64,
    /// The thread's own time when it was last looked at, as long as it has priority.
    since: Option<Duration>,
    refused: bool,
}

/// The account holds what comes in so long: a pass over all sockets or processes takes more than its part of a moment, seldom.
const HOLDS_NS: u64 = 1_000_000_000;

impl Share {
    /// `percent` of one processor. 0: none at all.
    pub fn new(percent: u8) -> Self {
        Self {
            percent: u64::from(percent),
            left_ns: 0,
            filled_ns: 0,
            since: None,
            refused: false,
        }
    }

    /// Whether it has priority at this moment.
    pub fn is_held(&self) -> bool {
        self.since.is_some()
    }

    /// Takes priority while something is left of the share, and gives it back when it is used up. An error is told once, and
    /// then nothing more is tried.
    pub fn claim(&mut self, now_ns: u64) -> io::Result<()> {
        if self.percent == 0 || self.refused {
            return Ok(());
        }
        self.draw();
        let part = |ns: u64| i64::try_from(ns.saturating_mul(self.percent) / 100).unwrap_or(i64::MAX);
        let come_in = part(now_ns.saturating_sub(self.filled_ns));
        self.left_ns = self.left_ns.saturating_add(come_in).min(part(HOLDS_NS));
        self.filled_ns = now_ns;
        if self.left_ns <= 0 {
            self.give_back();
        } else if !self.is_held() {
            return self.raise();
        }
        Ok(())
    }

    /// Before long pieces of work that nobody waits for.
    pub fn give_back(&mut self) {
        if self.is_held() {
            self.draw();
            self.since = None;
            // Nobody is refused to be like everybody.
            self.refused = set_policy(libc::SCHED_OTHER, 0).is_err();
        }
    }

    fn raise(&mut self) -> io::Result<()> {
        // The least there is: whoever needs his processor at once, as kernel and drivers do, goes first.
        let raised = set_policy(libc::SCHED_RR, 1);
        self.refused = raised.is_err();
        self.since = raised.is_ok().then(own_time);
        raised
    }

    fn draw(&mut self) {
        if let Some(since) = &mut self.since {
            let now = own_time();
            let used = i64::try_from(now.saturating_sub(*since).as_nanos()).unwrap_or(i64::MAX);
            self.left_ns = self.left_ns.saturating_sub(used);
            *since = now;
        }
    }
}

fn own_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Of the calling thread. Threads and processes it begins are like all others.
fn set_policy(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: priority,
    };
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // musl's function of that name does nothing.
    // SAFETY: the kernel reads one parameter, which outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, thread};

    /// The policy of this thread, as proc(5) shows it.
    fn policy() -> String {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(38).unwrap().to_owned()
    }

    fn burn(time: Duration) {
        let begin = own_time();
        while own_time() - begin < time {}
    }

    /// In a thread of its own, for the policy is the thread's.
    fn run(test: impl FnOnce() + Send) {
        thread::scope(|scope| scope.spawn(test).join()).unwrap();
    }

    #[test]
    fn of_nothing_nothing_is_taken() {
        run(|| {
            let mut share = Share::new(0);
            share.claim(1).unwrap();
            assert!(!share.is_held());
            assert_eq!(policy(), "0");
        });
    }

    #[test]
    fn it_is_held_as_long_as_something_is_left() {
        const BEGIN: u64 = 1 << 40;
        run(|| {
            let mut share = Share::new(10);
            // Where nobody may, it says so once and stays as it is.
            if share.claim(BEGIN).is_err() {
                share.claim(2 * BEGIN).unwrap();
                assert!(!share.is_held());
                assert_eq!(policy(), "0");
                return;
            }
            assert_eq!((share.is_held(), policy().as_str()), (true, "2"));
            assert_eq!(thread::spawn(policy).join().unwrap(), "0", "it is not inherited");
            // A second's worth is there at first, and no more however long ago that was.
            burn(Duration::from_millis(101));
            share.claim(BEGIN).unwrap();
            assert_eq!((share.is_held(), policy().as_str()), (false, "0"));
            // Without priority it may use what it likes.
            burn(Duration::from_millis(101));
            share.claim(BEGIN + HOLDS_NS / 2).unwrap();
            assert_eq!((share.is_held(), policy().as_str()), (true, "2"));
            share.give_back();
            assert_eq!((share.is_held(), policy().as_str()), (false, "0"));
            share.claim(BEGIN + HOLDS_NS / 2).unwrap();
            assert!(share.is_held(), "little of it was used");
            // What was too much is paid back.
            burn(Duration::from_millis(101));
            share.claim(BEGIN + HOLDS_NS / 2).unwrap();
            assert!(!share.is_held());
            share.claim(BEGIN + HOLDS_NS / 2 + HOLDS_NS / 4).unwrap();
            assert!(!share.is_held());
            share.claim(BEGIN + 2 * HOLDS_NS).unwrap();
            assert!(share.is_held());
        });
    }
}
