//! Asks around for what a scrape and the API show, with one deadline for everything.
//!
//! Whoever does not answer in time is left out and counted; a core that hangs costs its own samples, not the scrape.
use super::{
    admin::{events::Streams, tap::Taps},
    flight::Flight,
};
use crate::{
    base::{context::Ctx, fqdn::Fqdn, logging::Verbosity},
    collect::worker::Worker,
    config::Live,
    conntrack::actor as conntrack,
    container::{actor::GetSamples, samples::Samples},
    fqdn::actor::{self as fqdn, GetNames},
    metrics::{
        families::{self, NodeLabels},
        own::{self, Agent, Containers, Scrape, Usage},
        text,
    },
    registry::{
        actor::{GetHeldSamples, GetSnapshot, Snapshot, TableSnapshot},
        lifecycle::Subscribe,
        messages::SetFilters,
    },
    runtimes::statistics::Statistics,
    supervisor::messages::{EndTap, GetActors, GetContainers, SetTap},
    tracer::{messages::SetL7, stats::KernelStats},
};
use actix::{MailboxError, Recipient};
use actix_web::web::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::time::{Instant, timeout_at};

/// All that the listeners show, or whom they ask for it.
pub struct Faces {
    pub ctx: Ctx,
    pub config: Arc<Live>,
    pub node: NodeLabels,
    pub kernel: Arc<KernelStats>,
    pub runtimes: Arc<Statistics>,
    pub conntrack: Arc<conntrack::Statistics>,
    pub fqdn: Arc<fqdn::Statistics>,
    pub containers: Recipient<GetContainers>,
    pub actors: Recipient<GetActors>,
    pub subscribe: Recipient<Subscribe>,
    pub filters: Recipient<SetFilters>,
    pub l7: Recipient<SetL7>,
    pub tap: Recipient<SetTap>,
    pub untap: Recipient<EndTap>,
    pub taps: Arc<Taps>,
    /// Of the log.
    pub verbosity: Verbosity,
    pub streams: Arc<Streams>,
    /// Looks at /proc, on the blocking pool.
    pub worker: Arc<Worker>,
    /// The agent's pid, as the host numbers it.
    pub own_tgid: u32,
    #[cfg(feature = "test-hooks")]
    pub breaker: Recipient<crate::supervisor::messages::Break>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nobody is there, or he died over the question.
    Gone,
    Late,
}

pub(super) async fn ask<T>(
    request: impl Future<Output = Result<T, MailboxError>>,
    deadline: Instant,
) -> Result<T, Silence> {
    match timeout_at(deadline, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_closed)) => Err(Silence::Gone),
        Err(_elapsed) => Err(Silence::Late),
    }
}

/// What came in time.
#[derive(Debug)]
pub(super) struct Collected {
    /// As they came: there may be two of one container.
    pub samples: Vec<Samples>,
    /// Actors of containers there are.
    pub running: usize,
    /// Those of them that did not answer in time.
    pub late: usize,
    /// Containers without an actor that the registry answered for.
    pub held: Result<usize, Silence>,
    pub registry: Result<Snapshot, Silence>,
    /// Of addresses.
    pub names: Result<Vec<(IpAddr, Fqdn)>, Silence>,
}

impl Faces {
    /// The deadline for a question that arrives now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config.get().http.scrape_timeout
    }

    /// Of the actors that a destination passes through, as of a second ago.
    pub(super) fn side_tables(&self) -> Vec<TableSnapshot> {
        let report = self.kernel.report();
        let fills = self.conntrack.tables().into_iter().chain(self.fqdn.table());
        let fills = fills.chain(report.tables.iter().copied());
        let snapshot = |(table, entries, capacity, rejected)| TableSnapshot {
            table,
            entries,
            capacity,
            rejected,
        };
        fills.map(snapshot).collect()
    }

    /// Everything about all containers. Without the supervisor nobody knows whom to ask.
    pub(super) async fn collect(&self, deadline: Instant) -> Result<Collected, Silence> {
        let list = ask(self.containers.send(GetContainers), deadline).await?;
        // Containers first: their questions wait before anything that the registry, once asked, may move to them. The
        // other way round a state could be counted both where it was and where it went.
        let mut asked: FuturesUnordered<_> = list.running.iter().map(|(_, to)| to.send(GetSamples)).collect();
        let held = list.held.as_ref().map(|to| to.send(GetHeldSamples));
        let registry = list.registry.as_ref().map(|to| to.send(GetSnapshot));
        let running = async {
            let mut samples = Vec::with_capacity(asked.len());
            while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
                samples.extend(answer);
            }
            (samples, asked.len())
        };
        let held = async {
            match held {
                Some(held) => ask(held, deadline).await,
                None => Err(Silence::Gone),
            }
        };
        let registry = async {
            match registry {
                Some(registry) => ask(registry, deadline).await,
                None => Err(Silence::Gone),
            }
        };
        let names = async {
            match list.names {
                Some(names) => ask(names.send(GetNames), deadline).await,
                None => Err(Silence::Gone),
            }
        };
        let ((mut samples, late), held, registry, names) = tokio::join!(running, held, registry, names);
        Ok(Collected {
            running: list.running.len(),
            late,
            held: held.map(|held| {
                let count = held.len();
                samples.extend(held);
                count
            }),
            samples,
            registry,
            names,
        })
    }
}

/// Answers scrapes; those that come together share one collection.
pub(super) struct Scraper {
    pub(super) faces: Arc<Faces>,
    flight: Flight<Bytes>,
    /// Actors of containers there were when the supervisor last answered.
    known: AtomicUsize,
    /// Containers without one when the registry last answered.
    known_held: AtomicUsize,
}

impl Scraper {
    pub(super) fn new(faces: Arc<Faces>) -> Self {
        Self {
            faces,
            flight: Flight::new(),
            known: AtomicUsize::new(0),
            known_held: AtomicUsize::new(0),
        }
    }

    /// The text of a scrape that arrives now.
    pub(super) async fn text(&self) -> Bytes {
        let deadline = self.faces.deadline();
        self.flight.join(|| self.collect(deadline)).await
    }

    async fn collect(&self, deadline: Instant) -> Bytes {
        let faces = &self.faces;
        let began_ns = faces.ctx.clock.monotonic_ns();
        // Whoever has waited for another's collection still has a moment for his own.
        let least = Instant::now() + faces.config.get().http.scrape_timeout / 8;
        let (samples, late, registry, names) = match faces.collect(deadline.max(least)).await {
            Ok(collected) => {
                self.known.store(collected.running, Ordering::Relaxed);
                let held = match collected.held {
                    Ok(count) => {
                        self.known_held.store(count, Ordering::Relaxed);
                        0
                    }
                    Err(_silence) => self.known_held.load(Ordering::Relaxed),
                };
                let names = collected.names.unwrap_or_default();
                (collected.samples, collected.late + held, collected.registry.ok(), names)
            }
            Err(_silence) => {
                let known = self.known.load(Ordering::Relaxed) + self.known_held.load(Ordering::Relaxed);
                (Vec::new(), known, None, Vec::new())
            }
        };
        let merged = Samples::merge(&samples);
        let exposed = merged.iter().filter(|container| container.exposed).count();
        let mut families = families::containers(&samples, &faces.node, &faces.config.get().metrics.labels);
        families.extend(families::names(&names, &faces.node));
        families.extend(own::agent(&Agent {
            ctx: &faces.ctx,
            kernel: &faces.kernel,
            runtimes: &faces.runtimes,
            conntrack: &faces.conntrack,
            reloads: faces.config.reloads(),
            fqdn: &faces.fqdn,
            node: &faces.node,
            tables: registry.as_ref().map_or(&[], |registry| &registry.tables),
            usage: Usage::read(),
            scrape: Scrape {
                seconds: faces.ctx.clock.monotonic_ns().saturating_sub(began_ns) as f64 / 1e9,
                containers: Containers {
                    exposed,
                    young: merged.len() - exposed,
                    late,
                },
            },
        }));
        Bytes::from(text::encode(families))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::fakes::{FakeRegistry, FakeSupervisor, NEVER, dead, running, samples},
        metrics::names,
    };
    use actix::Actor;
    use futures_util::future::join_all;
    use std::{future::Future, time::Duration};
    use tokio::time::sleep;

    fn registry(held: Vec<Samples>, after: Duration) -> Option<actix::Addr<FakeRegistry>> {
        Some(FakeRegistry { held, after }.start())
    }

    const NONE: [f64; 0] = [];

    /// With how long it took on the paused clock.
    async fn timed<T>(what: impl Future<Output = T>) -> (T, Duration) {
        let began = Instant::now();
        let outcome = what.await;
        (outcome, began.elapsed())
    }

    async fn scraped(scraper: &Scraper) -> String {
        let (text, took) = timed(scraper.text()).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        String::from_utf8(text.to_vec()).unwrap()
    }

    /// The values of a family whose labels contain `with`.
    fn values(text: &str, family: &names::Family, with: &str) -> Vec<f64> {
        let start = format!("{}{{", family.name);
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&start) && line.contains(with));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect()
    }

    #[actix::test]
    async fn everybody_is_asked() {
        tokio::time::pause();
        let supervisor = FakeSupervisor {
            running: vec![running("/a", Duration::ZERO), running("/b", Duration::from_millis(700))],
            registry: registry(vec![samples("/b"), samples("/c")], Duration::ZERO),
            ..FakeSupervisor::default()
        };
        let text = scraped(&Scraper::new(supervisor.faces().0)).await;
        for (id, connects) in [("/a", 3.0), ("/b", 6.0), ("/c", 3.0)] {
            let with = format!("container_id=\"{id}\"");
            assert_eq!(values(&text, &names::CONTAINER_INFO, &with), [1.0], "{id}");
            assert_eq!(values(&text, &names::CONNECTS, &with), [connects], "{id}");
        }
        assert_eq!(values(&text, &names::SCRAPE_LATE_CONTAINERS, ""), [0.0]);
        assert_eq!(values(&text, &names::CONTAINERS, "exposed"), [3.0]);
        assert_eq!(values(&text, &names::TABLE_ENTRIES, "processes"), [5.0]);
        let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(types.is_sorted_by(|a, b| a < b), "{types:?}");
        let known = |line: &&&str| {
            let kind = |family: &names::Family| format!("{:?}", family.kind).to_lowercase();
            names::all().any(|family| **line == format!("{} {}", family.name, kind(family)))
        };
        assert_eq!(types.iter().filter(known).count(), types.len(), "{types:?}");
    }

    #[actix::test]
    async fn a_late_container_is_left_out_and_counted() {
        tokio::time::pause();
        let supervisor = FakeSupervisor {
            running: vec![
                running("/a", Duration::ZERO),
                running("/b", NEVER),
                running("/c", NEVER),
            ],
            registry: registry(Vec::new(), Duration::ZERO),
            ..FakeSupervisor::default()
        };
        let text = scraped(&Scraper::new(supervisor.faces().0)).await;
        assert_eq!(values(&text, &names::CONTAINER_INFO, ""), [1.0]);
        assert_eq!(values(&text, &names::SCRAPE_LATE_CONTAINERS, ""), [2.0]);
        assert_eq!(values(&text, &names::CONTAINERS, "late"), [2.0]);
    }

    #[actix::test]
    async fn a_dead_container_is_neither_waited_for_nor_late() {
        tokio::time::pause();
        let supervisor = FakeSupervisor {
            running: vec![dead("/a"), running("/b", Duration::ZERO)],
            registry: registry(Vec::new(), Duration::ZERO),
            ..FakeSupervisor::default()
        };
        let scraper = Scraper::new(supervisor.faces().0);
        let (_, took) = timed(scraper.text()).await;
        assert!(took < Duration::from_millis(100), "{took:?}");
        let text = scraped(&scraper).await;
        assert_eq!(values(&text, &names::CONTAINER_INFO, ""), [1.0]);
        assert_eq!(values(&text, &names::SCRAPE_LATE_CONTAINERS, ""), [0.0]);
    }

    #[actix::test]
    async fn a_core_that_hangs_costs_its_own_samples_only() {
        tokio::time::pause();
        let supervisor = FakeSupervisor {
            running: vec![running("/a", NEVER), running("/b", NEVER)],
            registry: registry(vec![samples("/c")], NEVER),
            ..FakeSupervisor::default()
        };
        let scraper = Scraper::new(supervisor.faces().0);
        // Also for those that come while another one waits in vain.
        let texts = join_all([0, 10, 790].map(async |ms| {
            sleep(Duration::from_millis(ms)).await;
            scraped(&scraper).await
        }));
        for text in texts.await {
            assert_eq!(values(&text, &names::CONTAINER_INFO, ""), NONE);
            assert_eq!(values(&text, &names::SCRAPE_LATE_CONTAINERS, ""), [2.0]);
            assert_eq!(values(&text, &names::BUILD_INFO, ""), [1.0]);
            assert_eq!(values(&text, &names::TABLE_ENTRIES, ""), NONE);
        }
    }

    #[actix::test]
    async fn a_supervisor_that_hangs_leaves_the_agents_own_families() {
        tokio::time::pause();
        let supervisor = FakeSupervisor {
            running: vec![running("/a", Duration::ZERO)],
            answers: Some(1),
            ..FakeSupervisor::default()
        };
        let scraper = Scraper::new(supervisor.faces().0);
        let text = scraped(&scraper).await;
        assert_eq!(values(&text, &names::CONTAINER_INFO, ""), [1.0]);
        let text = scraped(&scraper).await;
        assert_eq!(values(&text, &names::CONTAINER_INFO, ""), NONE);
        assert_eq!(values(&text, &names::BUILD_INFO, ""), [1.0]);
        assert_eq!(
            values(&text, &names::SCRAPE_LATE_CONTAINERS, ""),
            [1.0],
            "as many as there were"
        );
    }

    #[actix::test]
    async fn scrapes_that_come_together_share_a_collection() {
        tokio::time::pause();
        let supervisor = FakeSupervisor {
            running: vec![running("/a", Duration::from_millis(100))],
            ..FakeSupervisor::default()
        };
        let asked = Arc::clone(&supervisor.asked);
        let scraper = Scraper::new(supervisor.faces().0);
        let texts = join_all([scraped(&scraper), scraped(&scraper)]).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(texts[0], texts[1]);
        let late = [0, 20, 40].map(async |ms| {
            sleep(Duration::from_millis(ms)).await;
            scraped(&scraper).await
        });
        join_all(late).await;
        assert_eq!(
            asked.load(Ordering::SeqCst),
            3,
            "one, and one for both that came meanwhile"
        );
    }
}
