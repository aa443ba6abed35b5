//! The names of addresses: the actor that knows them, and their garbage collection.
//!
//! Whoever shows a name or its address keeps it. So the table says what nobody has heard of for a period, everybody is asked
//! which of it he refers to, and the rest goes. Where one of them cannot tell in time, all stays until the next time.
use super::actor::Supervisor;
use crate::{
    base::mailbox::tell,
    container::actor::ContainerActor,
    fqdn::actor::{
        self as fqdn, Blueprint, ForgetNames, FqdnActor, FqdnStopped, GetReferred, GetStale, RegistryRecipients,
    },
    registry::actor::RegistryActor,
    tracer::{actor::FqdnRecipients, messages::SetFqdn},
};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, Recipient, WrapFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// For all that are asked.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct FqdnParts {
    pub settings: fqdn::Settings,
    pub statistics: Arc<fqdn::Statistics>,
}

pub(super) fn recipients(registry: Addr<RegistryActor>) -> RegistryRecipients {
    RegistryRecipients {
        batches: registry.clone().recipient(),
        record: registry.recipient(),
    }
}

pub(super) fn of_tracer(fqdn: Addr<FqdnActor>) -> FqdnRecipients {
    FqdnRecipients {
        batches: fqdn.clone().recipient(),
        answers: fqdn.recipient(),
    }
}

impl Supervisor {
    pub(super) fn start_fqdn(&mut self, context: &mut Context<Self>) {
        let blueprint = Blueprint {
            ctx: self.parts.ctx.component("fqdn"),
            settings: self.parts.fqdn.settings.clone(),
            statistics: Arc::clone(&self.parts.fqdn.statistics),
            registry: self.registry.clone().map(recipients),
            stopped: context.address().recipient(),
        };
        let fqdn = FqdnActor::start_in_arbiter(&self.parts.core, |_| FqdnActor::new(blueprint));
        if let Some(conntrack) = &self.conntrack {
            let message = crate::conntrack::actor::SetNext(fqdn.clone().recipient());
            tell(&conntrack.clone().recipient(), message);
        }
        if let Some(tracer) = &self.tracer {
            tell(&tracer.clone().recipient(), SetFqdn(of_tracer(fqdn.clone())));
        }
        self.fqdn = Some(fqdn);
    }

    /// After everybody was told to forget what is quiet.
    pub(super) fn collect_names(&self, context: &mut Context<Self>) {
        let (Some(fqdn), Some(registry)) = (&self.fqdn, &self.registry) else {
            return;
        };
        let everybody = Everybody {
            stale: fqdn.clone().recipient(),
            forget: fqdn.clone().recipient(),
            held: registry.clone().recipient(),
            running: context.address().recipient(),
        };
        let asked = async move { drop(timeout(PATIENCE, everybody.forget_unreferenced()).await) };
        context.spawn(asked.into_actor(self));
    }
}

impl Handler<FqdnStopped> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: FqdnStopped, context: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.fqdn = None;
        let wait = self.ended("fqdn", "fqdn", message.panicked);
        context.run_later(wait, |actor, context| actor.start_fqdn(context));
    }
}

/// The containers that run.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Recipient<GetReferred>>")]
pub(super) struct GetReferrers;

impl Handler<GetReferrers> for Supervisor {
    type Result = MessageResult<GetReferrers>;

    fn handle(&mut self, _: GetReferrers, _: &mut Context<Self>) -> Self::Result {
        let running = self.containers.values();
        MessageResult(
            running
                .map(|(_, container): &(_, Addr<ContainerActor>)| container.clone().recipient())
                .collect(),
        )
    }
}

/// Whom to ask.
pub(super) struct Everybody {
    pub stale: Recipient<GetStale>,
    pub forget: Recipient<ForgetNames>,
    pub held: Recipient<GetReferred>,
    pub running: Recipient<GetReferrers>,
}

impl Everybody {
    /// `None`: somebody could not tell.
    pub(super) async fn forget_unreferenced(self) -> Option<()> {
        let stale = Arc::new(self.stale.send(GetStale).await.ok()?);
        if stale.is_empty() {
            return Some(());
        }
        // The registry first, and the list of containers after it: a state that it still held when it answered is in the
        // answer, and one that it had handed on waits before the container's question.
        let mut referred = self.held.send(GetReferred(Arc::clone(&stale))).await.ok()??;
        let containers = self.running.send(GetReferrers).await.ok()?;
        let asked = containers
            .iter()
            .map(|container| container.send(GetReferred(Arc::clone(&stale))));
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some(answer) = asked.next().await {
            // One that has died refers to nothing any more; nor does one that was dead already.
            if let Ok(answer) = answer {
                referred.add(answer?);
            }
        }
        let free = stale.without(&referred);
        if !free.is_empty() {
            tell(&self.forget, ForgetNames(free));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{
            clock::{Clock, ManualClock},
            context::Ctx,
            fqdn::Fqdn,
            ids::{NetnsId, SocketId},
            ledger::Counts,
        },
        container::{
            actor::{ApplyShare, Blueprint as ContainerBlueprint, CollectGarbage, ContainerStopped, Retire},
            state::{ContainerEvent, Limits},
        },
        decode::{DestinationKey, DnsAnswered, SocketEvent},
        fqdn::table::Referred,
    };

    const KEEP: Duration = Duration::from_secs(600);

    /// Registry and supervisor.
    #[derive(Default)]
    struct Others {
        held: Vec<DestinationKey>,
        /// A state is neither with the registry nor with an actor.
        under_way: bool,
        containers: Vec<Addr<ContainerActor>>,
    }

    impl Actor for Others {
        type Context = Context<Self>;
    }

    impl Handler<GetReferred> for Others {
        type Result = Option<Referred>;

        fn handle(&mut self, message: GetReferred, _: &mut Context<Self>) -> Self::Result {
            (!self.under_way).then(|| message.0.referred(self.held.iter()))
        }
    }

    impl Handler<GetReferrers> for Others {
        type Result = Vec<Recipient<GetReferred>>;

        fn handle(&mut self, _: GetReferrers, _: &mut Context<Self>) -> Self::Result {
            self.containers.iter().cloned().map(Addr::recipient).collect()
        }
    }

    impl Handler<ContainerStopped> for Others {
        type Result = ();

        fn handle(&mut self, _: ContainerStopped, _: &mut Context<Self>) {}
    }

    impl Handler<FqdnStopped> for Others {
        type Result = ();

        fn handle(&mut self, _: FqdnStopped, _: &mut Context<Self>) {}
    }

    struct Scene {
        ctx: Ctx,
        clock: Arc<ManualClock>,
        fqdn: Addr<FqdnActor>,
        others: Addr<Others>,
    }

    impl Scene {
        /// `containers`: what each is connected to.
        fn new(containers: &[SocketEvent], others: Others) -> (Self, Vec<Addr<ContainerActor>>) {
            let clock = Arc::new(ManualClock::new(0, 0, 0));
            clock.advance(KEEP);
            let ctx = Ctx {
                log: slog::Logger::root(slog::Discard, slog::o!()),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                ledger: Arc::default(),
                features: Arc::default(),
                depths: Arc::default(),
                pulses: Arc::default(),
                restarts: Arc::default(),
            };
            let blueprint = |stopped| ContainerBlueprint {
                ctx: ctx.clone(),
                limits: Limits {
                    destinations: 10,
                    names: 10,
                    listens: 10,
                    connections: 10,
                },
                min_age: Duration::ZERO,
                keep: KEEP,
                host: NetnsId(1),
                stopped,
            };
            let nobody = Others::default().start();
            let start = |event: &SocketEvent| {
                let container = ContainerActor::new("/a".into(), 1, blueprint(nobody.clone().recipient())).start();
                let share = ApplyShare {
                    events: vec![ContainerEvent::Seen(event.clone())],
                    counts: Counts::default(),
                    in_flight: None,
                    ack: None,
                    queued: ctx.depths.of("container").queued(),
                };
                tell(&container.clone().recipient(), share);
                container
            };
            let containers: Vec<_> = containers.iter().map(start).collect();
            let others = Others {
                containers: containers.clone(),
                ..others
            };
            let fqdn = FqdnActor::new(Blueprint {
                ctx: ctx.clone(),
                settings: fqdn::Settings {
                    max_entries: 100,
                    keep: KEEP,
                    recording: false,
                },
                statistics: Arc::default(),
                registry: None,
                stopped: nobody.recipient(),
            })
            .start();
            let others = others.start();
            let scene = Self {
                ctx,
                clock,
                fqdn,
                others,
            };
            (scene, containers)
        }

        fn answer(&self, name: &str, addresses: &[&str]) {
            let answer = DnsAnswered {
                name: name.as_bytes().into(),
                addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            };
            tell(&self.fqdn.clone().recipient(), answer);
        }

        async fn collect(&self) -> Option<()> {
            let everybody = Everybody {
                stale: self.fqdn.clone().recipient(),
                forget: self.fqdn.clone().recipient(),
                held: self.others.clone().recipient(),
                running: self.others.clone().recipient(),
            };
            everybody.forget_unreferenced().await
        }

        /// The addresses that are left, all of which have been quiet for long.
        async fn left(&self) -> Vec<String> {
            self.clock.advance(2 * KEEP);
            let stale = self.fqdn.send(GetStale).await.unwrap();
            let left = stale.without(&Referred::default());
            left.iter().map(ToString::to_string).collect()
        }
    }

    fn name(name: &str) -> Fqdn {
        Fqdn::new(name.as_bytes()).unwrap()
    }

    fn to(cookie: u64, remote: &str, by: Option<&str>) -> SocketEvent {
        SocketEvent {
            socket: SocketId { cookie, generation: 1 },
            remote: remote.parse().unwrap(),
            name: by.map(name),
            ..SocketEvent::example()
        }
    }

    fn containers() -> [SocketEvent; 2] {
        [
            to(1, "192.0.2.1:443", Some("named.example")),
            to(2, "10.0.0.2:80", None),
        ]
    }

    async fn answers(scene: &Scene) {
        scene.answer("named.example", &["192.0.2.1", "192.0.2.2"]);
        scene.answer("private.example", &["10.0.0.2"]);
        scene.answer("held.example", &["10.0.0.3"]);
        scene.answer("nobody.example", &["10.0.0.4"]);
        scene.answer("nobody-either.example", &["192.0.2.4", "192.0.2.5"]);
        // Before the clock goes on.
        scene.fqdn.send(GetStale).await.unwrap();
    }

    fn held() -> Others {
        Others {
            held: vec![DestinationKey::direct("10.0.0.3:80".parse().unwrap())],
            ..Others::default()
        }
    }

    #[actix::test]
    async fn a_name_goes_when_no_living_container_refers_to_it() {
        let (scene, containers) = Scene::new(&containers(), held());
        answers(&scene).await;
        assert_eq!(scene.collect().await, Some(()), "nothing is old enough");
        assert_eq!(scene.left().await.len(), 7);
        assert_eq!(scene.collect().await, Some(()));
        // By address or by name, those that only the name is left of included.
        assert_eq!(scene.left().await, ["10.0.0.2", "10.0.0.3", "192.0.2.1", "192.0.2.2"]);
        // However often: what is connected is not forgotten.
        for container in &containers {
            tell(&container.clone().recipient(), CollectGarbage);
        }
        assert_eq!(scene.collect().await, Some(()));
        assert_eq!(scene.left().await.len(), 4);
        tell(&containers[0].clone().recipient(), Retire);
        while containers[0].connected() {
            tokio::task::yield_now().await;
        }
        assert_eq!(scene.collect().await, Some(()));
        assert_eq!(scene.left().await, ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(scene.ctx.restarts.read(), []);
    }

    #[actix::test]
    async fn where_somebody_cannot_tell_all_stays() {
        let (scene, _containers) = Scene::new(
            &containers(),
            Others {
                under_way: true,
                ..held()
            },
        );
        answers(&scene).await;
        scene.left().await;
        assert_eq!(scene.collect().await, None);
        assert_eq!(scene.left().await.len(), 7);
    }
}
