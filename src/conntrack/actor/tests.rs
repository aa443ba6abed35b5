//! A batch that passes.
use super::*;
use crate::{
    base::{
        clock::ManualClock,
        ids::SocketId,
        ledger::{Counts, Reason},
        now::Now,
    },
    collect::node::probe,
    config::Config,
    container::actor::Ack,
    decode::Protocol,
};
use std::net::SocketAddr;
use tokio::sync::mpsc;

struct Next(mpsc::UnboundedSender<Vec<Event>>);

impl Actor for Next {
    type Context = Context<Self>;
}

impl Handler<EventBatch> for Next {
    type Result = ();

    fn handle(&mut self, batch: EventBatch, _: &mut Context<Self>) {
        batch.in_flight.settle_all(Reason::Own);
        self.0.send(batch.events).unwrap();
    }
}

impl Handler<ConntrackStopped> for Next {
    type Result = ();

    fn handle(&mut self, _: ConntrackStopped, _: &mut Context<Self>) {}
}

fn ctx() -> Ctx {
    Ctx {
        log: slog::Logger::root(slog::Discard, slog::o!()),
        clock: Arc::new(ManualClock::new(5, 5, 5)),
        ledger: Arc::default(),
        features: Arc::default(),
        depths: Arc::default(),
        pulses: Arc::default(),
        restarts: Arc::default(),
    }
}

/// Nothing tracks anything there.
fn blueprint(ctx: &Ctx, proc: PathBuf, next: mpsc::UnboundedSender<Vec<Event>>) -> Blueprint {
    let config = Config::default();
    let setup = probe(&config, &ctx.features).setup(&config);
    let next = Next(next).start();
    let settings = Settings {
        enabled: true,
        cilium_maps: None,
        look_again: Duration::from_secs(30),
        root: proc.clone(),
        host_netns: proc.clone(),
        host: NetnsId(1),
        proc,
    };
    Blueprint {
        ctx: ctx.clone(),
        settings,
        kernel: Arc::new(Mutex::new(Kernel::new(setup, None))),
        statistics: Arc::default(),
        next: Some(next.clone().recipient()),
        stopped: next.recipient(),
    }
}

fn connection(port: u16) -> SocketEvent {
    SocketEvent {
        socket: SocketId {
            cookie: u64::from(port),
            generation: 1,
        },
        local: SocketAddr::from(([192, 0, 2, 7], port)),
        remote: "10.96.0.1:80".parse().unwrap(),
        ..SocketEvent::example()
    }
}

fn said(role: Role, on: &SocketEvent) -> Event {
    Event::Exchanges(Exchanges {
        local: on.local,
        remote: on.remote,
        netns: on.netns,
        ..Exchanges::example(role, Protocol::Http)
    })
}

#[actix::test]
async fn requests_leave_it_as_the_connections_do_that_they_were_on() {
    let proc = tempfile::tempdir().unwrap();
    let (ctx, (sender, mut passed)) = (ctx(), mpsc::unbounded_channel());
    let blueprint = blueprint(&ctx, proc.path().to_owned(), sender);
    let statistics = Arc::clone(&blueprint.statistics);
    let mut actor = ConntrackActor::new(blueprint);
    let (led, unknown) = (connection(1), connection(2));
    let backend = "10.1.0.1:80".parse().unwrap();
    actor.routes.answered(&led, false, Answer::To(backend), 5);
    let mut on_loopback = connection(3);
    on_loopback.remote = "127.0.0.1:80".parse().unwrap();
    let batch = EventBatch {
        events: vec![
            said(Role::Client, &led),
            said(Role::Server, &led),
            said(Role::Client, &unknown),
            said(Role::Client, &on_loopback),
            Event::ConnectionClosed(led),
            Event::ConnectionClosed(on_loopback),
        ],
        in_flight: ctx.ledger.take(Counts::default()),
        ack: Arc::new(Ack(None)),
        now: Now::default(),
        sweep_before_ns: None,
        inventory: false,
        routes: Vec::new(),
        raw: None,
        queued: ctx.depths.of("registry").queued(),
    };
    tell(&actor.start().recipient(), batch);
    let events = passed.recv().await.unwrap();
    let actual = events.iter().map(|event| match event {
        Event::Exchanges(said) => said.actual,
        Event::ConnectionClosed(event) => event.actual,
        other => panic!("{other:?}"),
    });
    let expected = [Some(backend), None, None, None, Some(backend), None];
    assert_eq!(actual.collect::<Vec<_>>(), expected);
    // Those on a connection that nothing is known of, and the one whose end had to be asked for itself.
    assert_eq!(statistics.read().map(|(_, n)| n).collect::<Vec<_>>(), [0, 0, 2, 0, 0]);
}
