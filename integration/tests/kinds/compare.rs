//! What the agent says of all rows, and where it is something else than what they are and did.
use crate::{scene::Row, table::RENAMED};
use std::time::Duration;
use tarsier_integration::{Agent, Metrics, Share, Stopwatch, pause, strangers};

const SOON: Duration = Duration::from_secs(30);
/// Longer than two passes over the totals: what would be counted twice, would be by now.
const TWO_PASSES: Duration = Duration::from_millis(2500);

/// What is to be seen.
pub(crate) struct Expected<'a> {
    /// Words that are in nobody's id.
    pub(crate) unwanted: &'a [String],
    pub(crate) rows: &'a [Row],
    /// How often each has connected since the agent came.
    pub(crate) connects: Vec<u64>,
    pub(crate) renamed: bool,
}

impl Expected<'_> {
    fn id(&self, row: &Row) -> &'static str {
        match self.renamed && row.kind.name == RENAMED.0 {
            true => RENAMED.1,
            false => row.kind.id,
        }
    }

    /// Waits until the agent says exactly that, and goes on to.
    #[track_caller]
    pub(crate) fn wait_for(&self, agent: &Agent, when: &str) {
        let watch = Stopwatch::start();
        loop {
            let wrong = self.wrong(agent);
            if wrong.is_empty() {
                break;
            }
            assert!(watch.elapsed() < SOON, "{when}:\n{}", wrong.join("\n"));
            pause(Duration::from_millis(300));
        }
        pause(TWO_PASSES);
        let wrong = self.wrong(agent);
        assert!(wrong.is_empty(), "{when}, a little later:\n{}", wrong.join("\n"));
    }

    fn share(&self, at: usize) -> Share<'static> {
        let row = &self.rows[at];
        Share {
            name: row.kind.name,
            id: self.id(row),
            app: row.kind.app,
            told: row.kind.told,
            port: row.address.port(),
            next: row.next.to_string(),
            connects: self.connects[at],
            accepted: self.connects[(at + self.rows.len() - 1) % self.rows.len()],
        }
    }

    fn wrong(&self, agent: &Agent) -> Vec<String> {
        let mut wrong = self.wrong_in(&agent.metrics());
        for at in 0..self.rows.len() {
            let share = self.share(at);
            let container = agent
                .ask(&format!("/api/v1/containers{}", share.id))
                .unwrap_or_default();
            wrong.extend(share.wrong_in_container(&container));
        }
        wrong
    }

    /// What metrics alone tell.
    pub(crate) fn wrong_in(&self, metrics: &Metrics) -> Vec<String> {
        let shares = (0..self.rows.len()).map(|at| self.share(at));
        let mut wrong: Vec<_> = shares.flat_map(|share| share.wrong_in(metrics)).collect();
        let former = self.rows.iter().map(|row| row.kind.id);
        let former = former.filter(|id| self.renamed && self.rows.iter().all(|row| self.id(row) != *id));
        let unwanted = self.unwanted.iter().map(String::as_str);
        wrong.extend(strangers(metrics, unwanted.chain(former)));
        wrong
    }
}
