//! The actor between its neighbours.
use super::actor::{Blueprint, FqdnActor, GetNames, RegistryRecipients, SetRegistry, Settings, Statistics};
use crate::{
    base::{
        clock::{Clock, ManualClock},
        context::Ctx,
        features::{State, feature},
        ledger::{Counts, Reason},
        mailbox::tell,
        now::Now,
    },
    container::actor::Ack,
    decode::{DnsAnswered, Event, SocketEvent},
    fqdn::actor::FqdnStopped,
    registry::messages::{EventBatch, RecordNames},
};
use actix::{Actor, Addr, Context, Handler};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tarsier_common::kind;

/// What came to the registry, in its order.
#[derive(Clone, Default)]
struct Registry(Arc<Mutex<Vec<String>>>);

impl Actor for Registry {
    type Context = Context<Self>;
}

impl Handler<EventBatch> for Registry {
    type Result = ();

    fn handle(&mut self, batch: EventBatch, _: &mut Context<Self>) {
        for event in batch.events {
            if let Event::SocketSeen(event) = event {
                let name = event.name.map_or("-".to_owned(), |name| name.to_string());
                self.0.lock().push(format!("seen {name}"));
            }
        }
        batch.in_flight.settle_all(Reason::Own);
    }
}

impl Handler<RecordNames> for Registry {
    type Result = ();

    fn handle(&mut self, message: RecordNames, _: &mut Context<Self>) {
        let said = match message {
            RecordNames::Answered(now, answer) => {
                format!(
                    "answered {} {}",
                    now.monotonic_ns,
                    String::from_utf8_lossy(&answer.name)
                )
            }
            RecordNames::Forgotten(addresses) => format!("forgotten {addresses:?}"),
        };
        self.0.lock().push(said);
    }
}

impl Handler<FqdnStopped> for Registry {
    type Result = ();

    fn handle(&mut self, message: FqdnStopped, _: &mut Context<Self>) {
        self.0.lock().push(format!("stopped {}", message.panicked));
    }
}

fn recipients(registry: &Addr<Registry>) -> RegistryRecipients {
    RegistryRecipients {
        batches: registry.clone().recipient(),
        record: registry.clone().recipient(),
    }
}

struct Scene {
    ctx: Ctx,
    statistics: Arc<Statistics>,
    said: Registry,
    fqdn: Addr<FqdnActor>,
}

impl Scene {
    fn new(max_entries: usize, recording: bool) -> Self {
        let ctx = Ctx {
            log: slog::Logger::root(slog::Discard, slog::o!()),
            clock: Arc::new(ManualClock::new(5, 5, 5)) as Arc<dyn Clock>,
            ledger: Arc::default(),
            features: Arc::default(),
            depths: Arc::default(),
            pulses: Arc::default(),
            restarts: Arc::default(),
        };
        let said = Registry::default();
        let registry = said.clone().start();
        let statistics = Arc::new(Statistics::default());
        let blueprint = Blueprint {
            ctx: ctx.clone(),
            settings: Settings {
                max_entries,
                keep: Duration::from_secs(600),
                recording,
            },
            statistics: Arc::clone(&statistics),
            registry: Some(recipients(&registry)),
            stopped: registry.recipient(),
        };
        Self {
            ctx,
            statistics,
            said,
            fqdn: FqdnActor::new(blueprint).start(),
        }
    }

    fn answer(&self, name: &str, addresses: &[&str]) {
        let answer = DnsAnswered {
            name: name.as_bytes().into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        tell(&self.fqdn.clone().recipient(), answer);
    }

    fn batch(&self) {
        let event = SocketEvent {
            remote: "192.0.2.1:443".parse().unwrap(),
            ..SocketEvent::example()
        };
        let mut counts = Counts::default();
        counts.add(kind::CLOSE, 1);
        let batch = EventBatch {
            events: vec![Event::SocketSeen(event)],
            in_flight: self.ctx.ledger.take(counts),
            ack: Arc::new(Ack(None)),
            now: Now::default(),
            sweep_before_ns: None,
            inventory: false,
            routes: Vec::new(),
            raw: None,
            queued: self.ctx.depths.of("registry").queued(),
        };
        tell(&self.fqdn.clone().recipient(), batch);
    }

    /// What the registry has been told meanwhile.
    async fn told(&self) -> Vec<String> {
        // Its answer comes after all that was sent before; then it is the registry's turn.
        self.fqdn.send(GetNames).await.unwrap();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        std::mem::take(&mut *self.said.0.lock())
    }

    fn row(&self) -> (State, &'static str) {
        let rows = self.ctx.features.rows();
        let row = rows.into_iter().find(|row| row.feature == feature::FQDN).unwrap();
        (row.state, row.reason)
    }
}

const BOTH: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

#[actix::test]
async fn a_connection_has_its_name_before_the_registry_hears_of_it() {
    let scene = Scene::new(10, false);
    scene.batch();
    assert_eq!(scene.told().await, ["seen -"]);
    assert_eq!(scene.row(), (State::Off, "no_answers"));
    scene.answer("a.example", &BOTH);
    scene.batch();
    assert_eq!(scene.told().await, ["seen a.example"]);
    assert_eq!(scene.row(), (State::Ok, ""));
}

#[actix::test]
async fn a_recording_has_answers_between_the_batches_that_they_came_between() {
    let scene = Scene::new(10, true);
    scene.batch();
    scene.answer("a.example", &BOTH);
    scene.batch();
    scene.answer("no name", &BOTH);
    scene.answer("b.example", &BOTH);
    scene.batch();
    assert_eq!(
        scene.told().await,
        [
            "seen -",
            "answered 5 a.example",
            "seen a.example",
            "answered 5 no name",
            "answered 5 b.example",
            "seen b.example"
        ]
    );
}

#[actix::test]
async fn every_answer_is_in_the_books() {
    let scene = Scene::new(10, false);
    scene.answer("a.example", &BOTH);
    scene.answer("b.example", &["10.0.0.1"]);
    scene.answer("c.example", &[]);
    scene.answer("no name", &BOTH);
    let many: Vec<String> = (0..100).map(|i| format!("198.51.100.{i}")).collect();
    scene.answer("d.example", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let names = scene.fqdn.send(GetNames).await.unwrap();
    assert_eq!(names, []);
    let counted = [("learnt", 2), ("cut", 1), ("no_address", 1), ("no_name", 1)];
    assert_eq!(scene.statistics.read(), counted);
}

#[actix::test]
async fn names_outlive_a_registry_and_batches_without_one_are_in_the_books() {
    let scene = Scene::new(10, false);
    scene.answer("a.example", &BOTH);
    let other = Registry::default().start();
    tell(&scene.fqdn.clone().recipient(), SetRegistry(recipients(&other)));
    scene.batch();
    assert_eq!(scene.told().await, [] as [&str; 0]);
    let next = scene.said.clone().start();
    tell(&scene.fqdn.clone().recipient(), SetRegistry(recipients(&next)));
    scene.batch();
    assert_eq!(scene.told().await, ["seen a.example"]);
    let account = scene.ctx.ledger.snapshot();
    assert!(account.kinds.iter().all(|kind| kind.in_flight == 0));
}

#[actix::test]
async fn with_room_for_none_nothing_is_learnt() {
    let scene = Scene::new(0, false);
    scene.answer("a.example", &BOTH);
    scene.batch();
    assert_eq!(scene.told().await, ["seen -"]);
    assert_eq!(scene.row(), (State::Off, "configured"));
    assert_eq!(scene.statistics.table(), Some(("fqdn", 0, 0, 0)));
}
