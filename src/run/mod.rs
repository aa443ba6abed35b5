//! `tarsier run`: from a configuration to a running agent, and to its orderly end.
mod lock;
mod runtimes;
mod watchdog;

use crate::{
    base::{
        clock::{Clock, SystemClock},
        context::{Ctx, Pulses, Restarts},
        features::{Features, State, feature},
        ledger::Ledger,
        logging::{self, Verbosity},
        mailbox::Depths,
    },
    cli::RunArgs,
    collect::{node, worker::Worker},
    config::{self, Config, Live},
    conntrack::actor as conntrack,
    container::{destination::Filter, state::Limits},
    fqdn::actor as fqdn,
    http::{
        admin::{self, events::Streams, tap::Taps},
        public,
        scrape::Faces,
    },
    recording::{Preamble, Recorder},
    registry::{
        filters::Filters,
        state::{Node, Settings},
    },
    runtimes::statistics::Statistics,
    supervisor::{
        actor::{ConntrackParts, Parts, Shutdown, Supervisor},
        names::FqdnParts,
    },
    tracer::{actor::Settings as TracerSettings, kernel::Kernel, object, stats::KernelStats},
};
use actix::{Actor, Addr};
use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use slog::{Logger, info, warn};
use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// For those who follow the events to be told of the end.
const GOODBYE: Duration = Duration::from_millis(250);

/// Returns when the agent was asked to end. Errors end it with one line.
pub fn run(args: &RunArgs) -> Result<()> {
    let config = config::load(args.file.path(), &args.overrides())?;
    if let Some(unknown) = args.require.iter().find(|name| !feature::ALL.contains(&name.as_str())) {
        bail!(
            "--require {unknown}: there is no such feature; there are {}",
            feature::ALL.join(", ")
        );
    }
    let (log, guard) = logging::logger(config.log.format, config.log.level.into())?;
    log_panics(&log);
    let result = serve(args, config, &log, &guard.verbosity);
    drop(guard);
    result
}

fn serve(args: &RunArgs, config: Config, log: &Logger, verbosity: &Verbosity) -> Result<()> {
    let _lock = lock::wait(&config.agent.lock, log)?;
    let public = TcpListener::bind(config.http.listen)
        .with_context(|| format!("cannot listen on {} (http.listen)", config.http.listen))?;
    let admin = bind_admin(&config.admin.socket)?;
    let config = Arc::new(config);
    let system = actix_rt::System::new();
    let result = system.block_on(agent(args, Arc::clone(&config), (public, admin), log, verbosity));
    fs::remove_file(&config.admin.socket).ok();
    result
}

async fn agent(
    args: &RunArgs,
    config: Arc<Config>,
    (public, admin): (TcpListener, UnixListener),
    log: &Logger,
    verbosity: &Verbosity,
) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ctx = Ctx {
        log: log.clone(),
        clock: Arc::clone(&clock),
        ledger: Arc::new(Ledger::default()),
        features: Arc::new(Features::default()),
        depths: Arc::new(Depths::default()),
        pulses: Arc::new(Pulses::default()),
        restarts: Arc::new(Restarts::default()),
    };
    let (signals, hangups) = (end_signals()?, signal(SignalKind::hangup())?);
    let probe = node::probe(&config, &ctx.features);
    let recorder = match &args.record {
        None => None,
        Some(path) => {
            let preamble = Preamble {
                node: probe.node.clone(),
                config: (*config).clone(),
                machine_id: probe.labels.machine_id.clone(),
                system_uuid: probe.labels.system_uuid.clone(),
                runtimes: runtimes::any(&config),
            };
            Some(Arc::new(Recorder::create(path, &preamble)?))
        }
    };
    let kernel = Kernel::new(probe.setup(&config), object::object());
    let worker = Arc::new(Worker::new(
        config.host.proc.clone(),
        &config.identity.cgroup_root,
        &probe.node,
        probe.tree,
        Arc::clone(&ctx.features),
        Arc::clone(&clock),
    ));
    let own_tgid = probe.node.own_tgid;
    let stats = Arc::new(KernelStats::default());
    let (core, tracer_thread, edge) = (arbiter()?, arbiter()?, arbiter()?);
    let runtime_statistics = Arc::new(Statistics::default());
    let conntrack_statistics = Arc::new(conntrack::Statistics::default());
    let fqdn_statistics = Arc::new(fqdn::Statistics::default());
    for runtime in runtimes::off(&config) {
        ctx.features
            .set(runtime.as_str(), State::Off, "configured", "the configuration says so");
    }
    let conntrack_settings = conntrack_settings(&config, &probe.node);
    for (feature, on) in [
        (feature::CONNTRACK, conntrack_settings.enabled),
        (feature::CILIUM, conntrack_settings.cilium_maps.is_some()),
        (feature::REALTIME, config.kernel.realtime_percent > 0),
    ] {
        if !on {
            ctx.features
                .set(feature, State::Off, "configured", "the configuration says so");
        }
    }
    let parts = Parts {
        registry: registry_settings(&config)?,
        tracer: tracer_settings(&config, recorder.is_some()),
        worker: Arc::clone(&worker),
        recorder: recorder.clone(),
        kernel: Arc::new(Mutex::new(kernel)),
        node: probe.node,
        stats: Arc::clone(&stats),
        gc_interval: config.gc.interval,
        backoff: (config.supervisor.backoff_min, config.supervisor.backoff_max),
        conntrack: ConntrackParts {
            settings: conntrack_settings,
            statistics: Arc::clone(&conntrack_statistics),
        },
        fqdn: FqdnParts {
            settings: fqdn_settings(&config, recorder.is_some()),
            statistics: Arc::clone(&fqdn_statistics),
        },
        core: core.handle(),
        tracer_thread: tracer_thread.handle(),
        runtimes: runtimes::parts(&config, edge.handle(), Arc::clone(&runtime_statistics)),
        ctx: ctx.clone(),
    };
    let supervisor = Supervisor::new(parts).start();
    let streams = Arc::new(Streams::default());
    let faces = Arc::new(Faces {
        ctx: ctx.clone(),
        config: Arc::new(Live::new((*config).clone(), args.file.config.clone(), args.overrides())),
        node: probe.labels,
        kernel: Arc::clone(&stats),
        runtimes: runtime_statistics,
        conntrack: conntrack_statistics,
        fqdn: fqdn_statistics,
        containers: supervisor.clone().recipient(),
        actors: supervisor.clone().recipient(),
        subscribe: supervisor.clone().recipient(),
        filters: supervisor.clone().recipient(),
        l7: supervisor.clone().recipient(),
        tap: supervisor.clone().recipient(),
        untap: supervisor.clone().recipient(),
        taps: Arc::new(Taps::new(config.admin.tap)),
        verbosity: verbosity.clone(),
        streams: Arc::clone(&streams),
        worker,
        own_tgid,
        #[cfg(feature = "test-hooks")]
        breaker: supervisor.clone().recipient(),
    });
    let reloads = actix_rt::spawn(reload_at(hangups, Arc::clone(&faces)));
    let servers = [public::serve(public, Arc::clone(&faces))?, admin::serve(admin, faces)?];
    let handles = servers.each_ref().map(actix_web::dev::Server::handle);
    servers.into_iter().for_each(|server| drop(actix_rt::spawn(server)));
    let watchdog = watchdog::start(ctx.clone(), config.supervisor.watchdog);

    let result = async {
        first_look(&stats, &ctx).await;
        require(&args.require, &ctx.features)?;
        watchdog::notify_ready(log);
        info!(log, "running"; "listen" => %config.http.listen, "admin_socket" => %config.admin.socket.display(),
            "version" => env!("CARGO_PKG_VERSION"));
        until_asked_to_end(signals).await;
        Ok(())
    }
    .await;

    info!(log, "ending");
    reloads.abort();
    watchdog.stop();
    let end = async {
        streams.end(GOODBYE).await;
        let stops = handles.iter().map(|handle| handle.stop(false));
        futures_util::future::join_all(stops).await;
        shutdown(&supervisor, &ctx).await;
    };
    if tokio::time::timeout(config.supervisor.shutdown_timeout, end)
        .await
        .is_err()
    {
        warn!(log, "not everything ended in time");
    }
    if let Some(recorder) = recorder {
        recorder.finish(ctx.now()).context("the recording is not whole")?;
    }
    core.stop();
    tracer_thread.stop();
    edge.stop();
    result
}

/// A thread with a small pool for blocking work.
fn arbiter() -> Result<actix_rt::Arbiter> {
    const BLOCKING_THREADS: usize = 4;
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .expect("a runtime needs a pipe and an epoll descriptor")
    };
    Ok(actix_rt::Arbiter::with_tokio_rt(runtime))
}

/// Until the programs were tried once: readiness means that what can be seen is being seen.
async fn first_look(stats: &KernelStats, ctx: &Ctx) {
    const PATIENCE: Duration = Duration::from_secs(20);
    let tried = async {
        while !stats.report().collects && ctx.features.rows().iter().all(|row| row.feature != feature::TCP_STATE) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, tried).await.is_err() {
        warn!(ctx.log, "the programs take long to load");
    }
}

fn require(features: &[String], state: &Features) -> Result<()> {
    for name in features {
        if !state.is_ok(name) {
            let row = state.rows().into_iter().find(|row| row.feature == name.as_str());
            let why = row.map_or_else(String::new, |row| format!(": {} ({})", row.reason, row.hint));
            bail!("feature {name} is required and does not work{why}");
        }
    }
    Ok(())
}

/// Caught from here on: whoever sees an answer may ask for the end at once.
fn end_signals() -> Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

async fn until_asked_to_end([mut terminate, mut interrupt]: [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What came of it is in the log.
async fn reload_at(mut hangups: Signal, faces: Arc<Faces>) {
    while hangups.recv().await.is_some() {
        Arc::clone(&faces).reload().await.ok();
    }
}

async fn shutdown(supervisor: &Addr<Supervisor>, ctx: &Ctx) {
    if let Err(error) = supervisor.send(Shutdown).await {
        warn!(ctx.log, "the supervisor did not answer"; "error" => %error);
    }
}

fn conntrack_settings(config: &Config, node: &Node) -> conntrack::Settings {
    let root = runtimes::root(config);
    let maps = &config.conntrack.cilium_maps;
    let wanted = config.conntrack.enabled && !maps.as_os_str().is_empty();
    conntrack::Settings {
        enabled: config.conntrack.enabled,
        cilium_maps: wanted.then(|| root.join(maps.strip_prefix("/").unwrap_or(maps))),
        look_again: config.kernel.retry_interval,
        proc: config.host.proc.clone(),
        root,
        host_netns: config.host.netns.clone(),
        host: node.host_netns,
    }
}

fn fqdn_settings(config: &Config, recording: bool) -> fqdn::Settings {
    fqdn::Settings {
        max_entries: config.fqdn.max_entries,
        keep: config.gc.interval,
        recording,
    }
}

pub fn registry_settings(config: &Config) -> Result<Settings> {
    let ports = config.network.ephemeral_ports.join(",");
    Ok(Settings {
        standalone: config.identity.standalone,
        cgroup_root: config.identity.cgroup_root.clone(),
        filter: Filter {
            ephemeral: ports.parse().context("network.ephemeral_ports")?,
            track_public: config.network.track_public.clone(),
        },
        limits: Limits {
            destinations: config.containers.max_destinations,
            names: config.fqdn.max_per_container,
            listens: config.containers.max_listens,
            connections: config.registry.max_sockets,
        },
        min_age: config.containers.min_age,
        keep: config.gc.interval,
        max_containers: config.containers.max,
        max_pending: config.containers.max_pending,
        max_processes: config.registry.max_processes,
        max_sockets: config.registry.max_sockets,
        runtimes: runtimes::any(config),
        filters: Arc::new(Filters::new(&config.filters)),
        actors: true,
        first_slot: 0,
    })
}

fn tracer_settings(config: &Config, recording: bool) -> TracerSettings {
    TracerSettings {
        drain_interval: config.kernel.drain_interval,
        totals_interval: config.kernel.totals_interval,
        inventory_interval: config.kernel.inventory_interval,
        files_interval: config.kernel.files_interval,
        retry_interval: config.kernel.retry_interval,
        realtime_percent: config.kernel.realtime_percent,
        batch: config.kernel.batch,
        recording,
        l7: config.l7.clone(),
    }
}

/// A socket that a killed agent has left is taken over: whoever holds the lock is the agent.
fn bind_admin(path: &Path) -> Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {} (admin.socket)", directory.display()))?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("{} (admin.socket) belongs to a running process", path.display());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {} (admin.socket)", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot restrict {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// One line in the log instead of a report on stderr.
fn log_panics(log: &Logger) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or("no message");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        slog::crit!(log, "a panic"; "error" => said, "at" => at, "thread" => thread.name().unwrap_or(""));
    }));
}
