//! What a scrape says of the agent itself, and of the node.
use super::{families::NodeLabels, names, series::Series};
use crate::{
    base::{
        context::Ctx,
        ledger::{Class, KindAccount, REASONS},
    },
    config::Reloads,
    conntrack::actor as conntrack,
    fqdn::actor as fqdn,
    registry::actor::TableSnapshot,
    runtimes::statistics::{Connection, Outcome, Statistics},
    tracer::stats::KernelStats,
};
use prometheus::proto::MetricFamily;

/// What there is to say.
pub struct Agent<'a> {
    pub ctx: &'a Ctx,
    pub kernel: &'a KernelStats,
    pub runtimes: &'a Statistics,
    pub conntrack: &'a conntrack::Statistics,
    pub reloads: Reloads,
    pub fqdn: &'a fqdn::Statistics,
    pub node: &'a NodeLabels,
    /// None while the registry does not answer.
    pub tables: &'a [TableSnapshot],
    pub usage: Option<Usage>,
    pub scrape: Scrape,
}

/// About the scrape that says it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrape {
    pub seconds: f64,
    pub containers: Containers,
}

/// Containers by what a scrape makes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Containers {
    pub exposed: usize,
    /// Too young to be exposed.
    pub young: usize,
    /// Did not answer in time.
    pub late: usize,
}

/// What the process takes.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
}

impl Usage {
    /// `None` where `/proc` cannot be read.
    pub fn read() -> Option<Self> {
        let stat = procfs::process::Process::myself().and_then(|own| own.stat()).ok()?;
        Some(Self {
            resident_bytes: stat.rss * procfs::page_size(),
            cpu_seconds: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
        })
    }
}

pub fn agent(of: &Agent<'_>) -> Vec<MetricFamily> {
    let mut series = Series::new(of.node);
    identity(&mut series, of.node);
    for kind in &of.ctx.ledger.snapshot().kinds {
        events(&mut series, kind);
    }
    for row in of.ctx.features.rows() {
        let labels = [row.feature, row.state.as_str(), row.reason];
        series.add(&names::FEATURE_STATE, labels, 1.0);
    }
    for (actor, depth) in of.ctx.depths.read() {
        series.add(&names::MAILBOX_DEPTH, [actor], depth as f64);
    }
    for (actor, message, count) in of.ctx.depths.read_dropped() {
        series.add(&names::MAILBOX_DROPPED, [actor, message], count as f64);
    }
    for (actor, cause, count) in of.ctx.restarts.read() {
        series.add(&names::ACTOR_RESTARTS, [actor, cause], count as f64);
    }
    kernel(&mut series, of.kernel);
    runtimes(&mut series, of.runtimes);
    for (outcome, n) in of.conntrack.read() {
        series.add(&names::CONNTRACK_LOOKUPS, [outcome], n as f64);
    }
    for (outcome, n) in of.conntrack.read_cilium() {
        series.add(&names::CILIUM_LOOKUPS, [outcome], n as f64);
    }
    for (outcome, n) in of.fqdn.read() {
        series.add(&names::FQDN_ANSWERS, [outcome], n as f64);
    }
    let report = of.kernel.report();
    let tables = of.conntrack.tables().into_iter().chain(of.fqdn.table());
    for (table, entries, capacity, rejected) in tables.chain(report.tables.iter().copied()) {
        series.add(&names::TABLE_ENTRIES, [table], entries as f64);
        series.add(&names::TABLE_CAPACITY, [table], capacity as f64);
        series.add(&names::TABLE_REJECTED, [table], rejected as f64);
    }
    for table in of.tables {
        series.add(&names::TABLE_ENTRIES, [table.table], table.entries as f64);
        series.add(&names::TABLE_CAPACITY, [table.table], table.capacity as f64);
        series.add(&names::TABLE_REJECTED, [table.table], table.rejected as f64);
    }
    reloads(&mut series, of.reloads);
    if let Some(usage) = of.usage {
        series.add(&names::RESIDENT_MEMORY_BYTES, [], usage.resident_bytes as f64);
        series.add(&names::CPU_SECONDS, [], usage.cpu_seconds);
    }
    let containers = of.scrape.containers;
    series.add(&names::SCRAPE_DURATION_SECONDS, [], of.scrape.seconds);
    series.add(&names::SCRAPE_LATE_CONTAINERS, [], containers.late as f64);
    for (state, count) in [
        ("exposed", containers.exposed),
        ("young", containers.young),
        ("late", containers.late),
    ] {
        series.add(&names::CONTAINERS, [state], count as f64);
    }
    series.finish()
}

fn identity(series: &mut Series<'_>, node: &NodeLabels) {
    series.add(&names::NODE_INFO, [&node.hostname, &node.kernel_version], 1.0);
    series.add(&names::NODE_AGENT_INFO, [&node.version], 1.0);
    series.add(&names::BUILD_INFO, [&node.version, &node.revision], 1.0);
}

fn events(series: &mut Series<'_>, of: &KindAccount) {
    series.add(&names::EVENTS_OBSERVED, [of.kind], of.observed as f64);
    series.add(&names::EVENTS_DELIVERED, [of.kind], of.delivered as f64);
    series.add(&names::EVENTS_IN_FLIGHT, [of.kind], of.in_flight as f64);
    for (_, reason, class) in REASONS {
        let dropped = of.dropped.iter().find(|dropped| dropped.reason == reason);
        // An alert on the increase of a loss must see it begin at zero.
        if dropped.is_some() || class == Class::Loss {
            let labels = [of.kind, reason, class.as_str()];
            series.add(&names::EVENTS_DROPPED, labels, dropped.map_or(0, |d| d.count) as f64);
        }
    }
}

fn kernel(series: &mut Series<'_>, stats: &KernelStats) {
    let report = stats.report();
    for program in &report.programs {
        let name = [program.program];
        series.add(&names::BPF_PROGRAM_RUN_SECONDS, name, program.run_ns as f64 / 1e9);
        series.add(&names::BPF_PROGRAM_RUNS, name, program.runs as f64);
        series.add(
            &names::BPF_PROGRAM_RECURSION_MISSES,
            name,
            program.recursion_misses as f64,
        );
    }
    for map in &report.maps {
        series.add(&names::BPF_MAP_ENTRIES, [map.map], map.entries as f64);
        series.add(&names::BPF_MAP_CAPACITY, [map.map], map.capacity as f64);
    }
    series.add(&names::BLIND_SECONDS, [], stats.blind_seconds());
}

fn reloads(series: &mut Series<'_>, of: Reloads) {
    for (result, n) in [("ok", of.ok), ("refused", of.refused)] {
        series.add(&names::CONFIG_RELOADS, [result], n as f64);
    }
    series.add(&names::CONFIG_LAST_RELOAD, [], f64::from(u8::from(!of.last_refused)));
}

fn runtimes(series: &mut Series<'_>, statistics: &Statistics) {
    for (runtime, of) in statistics.wanted() {
        let connected = of.connection() == Connection::Connected;
        series.add(
            &names::RUNTIME_CONNECTED,
            [runtime.as_str()],
            f64::from(u8::from(connected)),
        );
        for outcome in Outcome::ALL {
            let labels = [runtime.as_str(), outcome.as_str()];
            series.add(&names::RUNTIME_CALLS, labels, of.calls(outcome) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{
            clock::ManualClock,
            features::feature,
            ledger::{Counts, Outcome, Reason},
        },
        metrics::{contract, text},
        runtimes::{Runtime, statistics},
        tracer::{
            kernel::ProgramStats,
            stats::{KernelReport, MapFill},
        },
    };
    use std::{collections::BTreeSet, sync::Arc};
    use tarsier_common::kind;

    fn answering() -> Statistics {
        let runtimes = Statistics::default();
        runtimes.of(Runtime::Docker).set_connection(Connection::Connected);
        runtimes.of(Runtime::Docker).count(statistics::Outcome::Timeout);
        runtimes.of(Runtime::Crio).set_connection(Connection::Absent);
        runtimes
    }

    fn context() -> Ctx {
        Ctx {
            log: slog::Logger::root(slog::Discard, slog::o!()),
            clock: Arc::new(ManualClock::default()),
            ledger: Arc::default(),
            features: Arc::default(),
            depths: Arc::default(),
            pulses: Arc::default(),
            restarts: Arc::default(),
        }
    }

    /// An agent to whom everything has happened.
    fn busy(ctx: &Ctx, kernel: &KernelStats) {
        let mut counts = Counts::default();
        counts.add(kind::CLOSE, 5);
        let mut delivered = Counts::default();
        delivered.add(kind::CLOSE, 3);
        ctx.ledger.take(counts).settle(&Outcome {
            delivered,
            dropped: vec![(kind::CLOSE, Reason::LinkLocal, 1), (kind::CLOSE, Reason::ActorDied, 1)],
        });
        ctx.features.degraded(feature::BTF, "no_btf", "a hint is no label");
        ctx.features.ok(feature::TOTALS);
        ctx.restarts.count("registry", "panic");
        kernel.add_blind_ns(2_500_000_000);
        kernel.publish(KernelReport {
            programs: vec![ProgramStats {
                program: "fork",
                runs: 4,
                run_ns: 2_000,
                recursion_misses: 1,
                verified_instructions: 100,
            }],
            maps: vec![MapFill {
                map: "news",
                entries: 1,
                capacity: 4096,
            }],
            ..KernelReport::default()
        });
    }

    #[test]
    fn everything_there_is_to_say() {
        let (ctx, kernel, node) = (context(), KernelStats::default(), NodeLabels::default());
        busy(&ctx, &kernel);
        let _waiting = ctx.depths.of("registry").queued();
        let containers = Containers {
            exposed: 3,
            young: 2,
            late: 1,
        };
        let families = agent(&Agent {
            ctx: &ctx,
            kernel: &kernel,
            runtimes: &answering(),
            conntrack: &conntrack::Statistics::default(),
            reloads: Reloads {
                ok: 2,
                refused: 1,
                last_refused: true,
            },
            fqdn: &fqdn::Statistics::default(),
            node: &node,
            tables: &[TableSnapshot {
                table: "processes",
                entries: 1,
                capacity: 2,
                rejected: 3,
            }],
            usage: Usage::read(),
            scrape: Scrape {
                seconds: 0.25,
                containers,
            },
        });
        contract::check(&families);
        let text = text::encode(families);
        for line in [
            r#"tarsier_events_dropped_total{class="policy",kind="connection_closed",machine_id="",reason="link_local",system_uuid=""} 1"#,
            r#"tarsier_events_dropped_total{class="loss",kind="connection_closed",machine_id="",reason="actor_died",system_uuid=""} 1"#,
            r#"tarsier_events_dropped_total{class="loss",kind="connection_closed",machine_id="",reason="ring_full",system_uuid=""} 0"#,
            r#"tarsier_events_observed_total{kind="connection_closed",machine_id="",system_uuid=""} 5"#,
            r#"tarsier_events_delivered_total{kind="connection_closed",machine_id="",system_uuid=""} 3"#,
            r#"tarsier_events_in_flight{kind="connection_closed",machine_id="",system_uuid=""} 0"#,
            r#"tarsier_feature_state{feature="btf",machine_id="",reason="no_btf",state="degraded",system_uuid=""} 1"#,
            r#"tarsier_mailbox_depth{actor="registry",machine_id="",system_uuid=""} 1"#,
            r#"tarsier_actor_restarts_total{actor="registry",cause="panic",machine_id="",system_uuid=""} 1"#,
            r#"tarsier_bpf_program_run_seconds_total{machine_id="",program="fork",system_uuid=""} 0.000002"#,
            r#"tarsier_bpf_map_capacity{machine_id="",map="news",system_uuid=""} 4096"#,
            r#"tarsier_table_rejected_total{machine_id="",system_uuid="",table="processes"} 3"#,
            r#"tarsier_fqdn_answers_total{machine_id="",outcome="learnt",system_uuid=""} 0"#,
            r#"tarsier_runtime_connected{machine_id="",runtime="docker",system_uuid=""} 1"#,
            r#"tarsier_runtime_connected{machine_id="",runtime="crio",system_uuid=""} 0"#,
            r#"tarsier_runtime_calls_total{machine_id="",outcome="timeout",runtime="docker",system_uuid=""} 1"#,
            r#"tarsier_config_reloads_total{machine_id="",result="ok",system_uuid=""} 2"#,
            r#"tarsier_config_reloads_total{machine_id="",result="refused",system_uuid=""} 1"#,
            r#"tarsier_config_last_reload_successful{machine_id="",system_uuid=""} 0"#,
            r#"tarsier_blind_seconds_total{machine_id="",system_uuid=""} 2.5"#,
            r#"tarsier_scrape_late_containers{machine_id="",system_uuid=""} 1"#,
            r#"tarsier_containers{machine_id="",state="young",system_uuid=""} 2"#,
        ] {
            assert!(text.lines().any(|is| is == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_name_of_the_agent_and_the_node_is_used() {
        let (ctx, kernel, node) = (context(), KernelStats::default(), NodeLabels::default());
        busy(&ctx, &kernel);
        let _waiting = ctx.depths.of("registry").queued();
        let _dropped = ctx.depths.dropped("container", "CollectGarbage");
        let families = agent(&Agent {
            ctx: &ctx,
            kernel: &kernel,
            runtimes: &answering(),
            conntrack: &conntrack::Statistics::default(),
            reloads: Reloads {
                ok: 2,
                refused: 1,
                last_refused: true,
            },
            fqdn: &fqdn::Statistics::default(),
            node: &node,
            tables: &[TableSnapshot {
                table: "processes",
                entries: 0,
                capacity: 0,
                rejected: 0,
            }],
            usage: Usage::read(),
            scrape: Scrape::default(),
        });
        let said: BTreeSet<_> = families.iter().map(MetricFamily::name).collect();
        let own = names::all()
            // The names of addresses are no news of the agent.
            .filter(|family| family.common_labels == names::NODE_LABELS && family.name != names::IP_TO_FQDN.name);
        let missing: Vec<_> = own
            .map(|family| family.name)
            .filter(|name| !said.contains(name))
            .collect();
        assert_eq!(missing, [] as [&str; 0]);
    }

    #[test]
    fn what_the_process_takes() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.cpu_seconds >= 0.0, "{usage:?}");
    }
}
