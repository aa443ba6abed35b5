//! Which containers nobody wants to see.

use crate::{
    base::ids::ContainerId,
    config::{self, Pattern},
    container::signals::Carries,
    runtimes::metadata::{Metadata, Unit},
};

#[derive(Debug, Default, PartialEq)]
pub struct Filters {
    deny: Vec<Pattern>,
    allow: Vec<Pattern>,
    skip_system_services: bool,
    signals: config::Signals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Shown,
    Hidden(HiddenReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HiddenReason {
    /// A pattern of `filters.deny` matches.
    Denied,
    /// No pattern of `filters.allow` matches.
    NotAllowed,
    /// It belongs to the system rather than to a user of it.
    SystemService,
}

impl HiddenReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
            Self::SystemService => "system_service",
        }
    }
}

impl Filters {
    pub fn new(config: &config::Filters) -> Self {
        Self {
            deny: config.deny.clone(),
            allow: config.allow.clone(),
            skip_system_services: config.skip_systemd_system_services,
            signals: config.signals.clone(),
        }
    }

    /// Whether it is shown at all is another question.
    pub fn carries(&self, id: &ContainerId) -> Carries {
        let passes = |filter: &config::SignalFilter| {
            let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.is_match(id.as_str()));
            !any(&filter.deny) && (filter.allow.is_empty() || any(&filter.allow))
        };
        Carries {
            tcp: passes(&self.signals.tcp),
            files: passes(&self.signals.files),
            l7: passes(&self.signals.l7),
        }
    }

    /// `metadata`: what is known so far. More of it can only hide.
    pub fn allows(&self, id: &ContainerId, metadata: Option<&Metadata>) -> Verdict {
        self.decide(id, metadata).0
    }

    /// With the pattern that decided, if one did.
    pub fn decide(&self, id: &ContainerId, metadata: Option<&Metadata>) -> (Verdict, Option<&Pattern>) {
        let first = |patterns: &'_ [Pattern]| patterns.iter().position(|pattern| pattern.is_match(id.as_str()));
        if let Some(at) = first(&self.deny) {
            return (Verdict::Hidden(HiddenReason::Denied), self.deny.get(at));
        }
        let allowed = first(&self.allow);
        if !self.allow.is_empty() && allowed.is_none() {
            return (Verdict::Hidden(HiddenReason::NotAllowed), None);
        }
        let unit = metadata.and_then(|metadata| metadata.unit.as_ref());
        if self.skip_system_services && (has_system_name(id) || unit.is_some_and(serves_the_system)) {
            return (Verdict::Hidden(HiddenReason::SystemService), None);
        }
        (Verdict::Shown, allowed.and_then(|at| self.allow.get(at)))
    }
}

/// Those of a plain Debian, Ubuntu or Fedora that no application depends on.
const SYSTEM: [&str; 14] = [
    "dbus",
    "getty",
    "irqbalance",
    "multipathd",
    "networkd-dispatcher",
    "packagekit",
    "qemu-guest-agent",
    "rpcbind",
    "serial-getty",
    "snapd",
    "system-getty",
    "system-serial",
    "systemd-",
    "unattended-upgrades",
];

fn has_system_name(id: &ContainerId) -> bool {
    let unit = id.as_str().strip_prefix('/').and_then(|id| id.split_once('/'));
    unit.is_some_and(|(slice, name)| slice.ends_with(".slice") && SYSTEM.iter().any(|prefix| name.starts_with(prefix)))
}

/// What does its work once, and what a timer or the bus starts, comes and goes with the system.
fn serves_the_system(unit: &Unit) -> bool {
    matches!(unit.kind.as_str(), "oneshot" | "dbus") || unit.triggered_by.ends_with(".timer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::Runtime;

    const SERVICE: &str = "/system.slice/web.service";

    fn filters(allow: &[&str], deny: &[&str]) -> Filters {
        let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        Filters::new(&config::Filters {
            allow: patterns(allow),
            deny: patterns(deny),
            ..config::Filters::default()
        })
    }

    fn unit(kind: &str, triggered_by: &str) -> Metadata {
        let mut metadata = Metadata::new(Runtime::Systemd);
        metadata.unit = Some(Unit {
            kind: kind.to_owned(),
            triggered_by: triggered_by.to_owned(),
            description: String::new(),
        });
        metadata
    }

    fn ask(filters: &Filters, id: &str, metadata: Option<&Metadata>) -> &'static str {
        match filters.allows(&id.into(), metadata) {
            Verdict::Shown => "shown",
            Verdict::Hidden(reason) => reason.as_str(),
        }
    }

    #[test]
    fn patterns() {
        let both = filters(&["^/k8s/", "^/docker/web$"], &["/kube-system/", "^/docker/web"]);
        assert_eq!(ask(&both, "/k8s/shop/db-0/app", None), "shown");
        assert_eq!(ask(&both, "/k8s/kube-system/dns-0/dns", None), "denied");
        assert_eq!(
            ask(&both, "/docker/web", None),
            "denied",
            "what is denied is not allowed again"
        );
        assert_eq!(ask(&both, "/docker/other", None), "not_allowed");
        assert_eq!(ask(&both, "/docker/k8s/x", None), "not_allowed");
        let by = |id: &str| both.decide(&id.into(), None).1.map(Pattern::as_str);
        assert_eq!(by("/k8s/kube-system/dns-0/dns"), Some("/kube-system/"));
        assert_eq!(by("/k8s/shop/db-0/app"), Some("^/k8s/"));
        assert_eq!(by("/docker/other"), None);
        let deny = filters(&[], &["shop"]);
        assert_eq!(ask(&deny, "/k8s/shop/db-0/app", None), "denied");
        assert_eq!(ask(&deny, "/docker/other", None), "shown");
        assert_eq!(ask(&filters(&[], &[]), "/docker/other", None), "shown");
    }

    #[test]
    fn signals() {
        let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let mut config = config::Filters::default();
        config.signals.tcp.deny = patterns(&["^/k8s/shop/"]);
        config.signals.files.allow = patterns(&["/db-0/"]);
        let filters = Filters::new(&config);
        for (id, tcp, files) in [
            ("/k8s/shop/db-0/app", false, true),
            ("/k8s/shop/web/app", false, false),
            ("/docker/db-0/", true, true),
            ("/docker/web", true, false),
        ] {
            assert_eq!(filters.carries(&id.into()), Carries { tcp, files, l7: true }, "{id}");
            assert_eq!(ask(&filters, id, None), "shown");
        }
        assert_eq!(Filters::default().carries(&"/a".into()), Carries::ALL);
        assert_ne!(filters, Filters::new(&config::Filters::default()));
    }

    #[test]
    fn system_services_by_name() {
        let filters = filters(&[], &[]);
        for (id, expected) in [
            ("/system.slice/systemd-journald.service", "system_service"),
            ("/system.slice/dbus.service", "system_service"),
            ("/system.slice/dbus-broker.service", "system_service"),
            ("/system.slice/system-serial-getty.slice", "system_service"),
            ("/system.slice/system-getty.slice", "system_service"),
            ("/runtime.slice/rpcbind.service", "system_service"),
            ("/system.slice/nginx.service", "shown"),
            ("/system.slice/my-dbus.service", "shown"),
            ("/system.slice/system-postgresql.slice", "shown"),
            ("/docker/dbus", "shown"),
            ("/swarm/dbus/dbus/1", "shown"),
            ("/standalone/systemd-run", "shown"),
            ("/system.slice", "shown"),
        ] {
            assert_eq!(ask(&filters, id, None), expected, "{id}");
        }
    }

    #[test]
    fn system_services_by_what_systemd_says() {
        let on = filters(&[], &[]);
        for (kind, triggered_by, expected) in [
            ("simple", "", "shown"),
            ("notify", "web.socket", "shown"),
            ("oneshot", "", "system_service"),
            ("dbus", "", "system_service"),
            ("simple", "backup.timer", "system_service"),
            ("", "", "shown"),
        ] {
            let metadata = unit(kind, triggered_by);
            assert_eq!(ask(&on, SERVICE, Some(&metadata)), expected, "{kind} {triggered_by}");
        }
        assert_eq!(ask(&on, "/docker/web", Some(&Metadata::new(Runtime::Docker))), "shown");
        let off = Filters::new(&config::Filters {
            skip_systemd_system_services: false,
            ..config::Filters::default()
        });
        assert_eq!(ask(&off, SERVICE, Some(&unit("oneshot", "backup.timer"))), "shown");
        assert_eq!(ask(&off, "/system.slice/dbus.service", None), "shown");
    }
}
