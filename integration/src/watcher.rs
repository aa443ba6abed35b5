//! Somebody who scrapes all the time, whatever else happens to the agent.
use crate::{Agent, Metrics, Stopwatch, eventually, http_get, pause};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// An answer that takes longer is wrong.
const LIMIT: Duration = Duration::from_secs(1);

/// Keeps what was wrong with the answers.
pub struct Watcher {
    going: Arc<AtomicBool>,
    scrapes: Arc<AtomicU32>,
    thread: thread::JoinHandle<Seen>,
}

#[derive(Default)]
struct Seen {
    complaints: Vec<String>,
    slowest: Duration,
}

impl Watcher {
    pub fn over(agent: &Agent) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let scrapes = Arc::new(AtomicU32::new(0));
        let (address, goes_on, count) = (agent.address(), Arc::clone(&going), Arc::clone(&scrapes));
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while goes_on.load(Relaxed) {
                let watch = Stopwatch::start();
                let response = http_get(address, "/metrics", &[], LIMIT);
                let took = watch.elapsed();
                match response {
                    Ok(response) if response.status == 200 => {
                        if Metrics::parse(&response.text()).value("node_agent_info", &[]) != Some(1.0) {
                            seen.complaints.push("an answer without node_agent_info".to_owned());
                        }
                    }
                    Ok(response) => seen.complaints.push(format!("status {}", response.status)),
                    Err(error) => seen.complaints.push(format!("{error:#}")),
                }
                if took > LIMIT {
                    seen.complaints.push(format!("an answer after {took:?}"));
                }
                seen.slowest = seen.slowest.max(took);
                count.fetch_add(1, Relaxed);
                pause(Duration::from_millis(20));
            }
            seen
        });
        Self { going, scrapes, thread }
    }

    /// How long the slowest answer took.
    #[track_caller]
    pub fn finish(self) -> Duration {
        let scrapes = self.scrapes.load(Relaxed);
        // What comes late is seen too.
        eventually(Duration::from_secs(30), "it has looked on for a while", || {
            self.scrapes.load(Relaxed) > scrapes + 20
        });
        self.going.store(false, Relaxed);
        let Seen { complaints, slowest } = self.thread.join().expect("the watcher only watches");
        assert!(complaints.is_empty(), "of {scrapes} scrapes: {complaints:?}");
        slowest
    }
}
