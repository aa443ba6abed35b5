//! Which runtimes are asked, and where.
use crate::{
    collect::host::HostFiles,
    config::{Config, RuntimeClient},
    runtimes::{
        Client, Runtime, client,
        containerd::{self, Containerd},
        crio::{self, Crio},
        docker::{DOCKER_SOCKETS, Docker, PODMAN_SOCKETS, Podman},
        statistics::Statistics,
        systemd::{self, Systemd},
    },
    supervisor::runtimes::{ClientPart, RuntimeParts},
};
use actix_rt::ArbiterHandle;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// `None`: the configuration switches all of them off.
pub(super) fn parts(config: &Config, edge: ArbiterHandle, statistics: Arc<Statistics>) -> Option<RuntimeParts> {
    let root = root(config);
    let of = &config.runtimes;
    let clients = [
        part::<Docker>(&of.docker, &DOCKER_SOCKETS, &root),
        part::<Podman>(&of.podman, &PODMAN_SOCKETS, &root),
        part::<Containerd>(&of.containerd, &containerd::SOCKETS, &root),
        part::<Crio>(&of.crio, &crio::SOCKETS, &root),
        part::<Systemd>(&of.systemd, &systemd::SOCKETS, &root),
    ];
    let clients: Vec<ClientPart> = clients.into_iter().flatten().collect();
    (!clients.is_empty()).then_some(RuntimeParts {
        edge,
        statistics,
        clients,
    })
}

/// Of the host's files, as far as they can be seen.
pub(super) fn root(config: &Config) -> PathBuf {
    let host = HostFiles::open(&config.host.proc, &config.host.root);
    host.map_or_else(|_| PathBuf::from("/"), |host| host.path().to_owned())
}

/// What is configured is taken as it is; the usual places are the host's.
fn part<C: Client>(config: &RuntimeClient, usual: &[&str], root: &Path) -> Option<ClientPart> {
    let sockets = if config.sockets.is_empty() {
        let at = |path: &&str| root.join(path.trim_start_matches('/'));
        usual.iter().map(at).collect()
    } else {
        config.sockets.clone()
    };
    config.enabled.then(|| ClientPart {
        runtime: C::RUNTIME,
        sockets,
        factory: client::factory::<C>(),
    })
}

/// Those that the configuration switches off, for the feature table.
pub(super) fn off(config: &Config) -> impl Iterator<Item = Runtime> {
    let of = &config.runtimes;
    let all = [
        (Runtime::Docker, &of.docker),
        (Runtime::Podman, &of.podman),
        (Runtime::Containerd, &of.containerd),
        (Runtime::Crio, &of.crio),
        (Runtime::Systemd, &of.systemd),
    ];
    all.into_iter()
        .filter(|(_, of)| !of.enabled)
        .map(|(runtime, _)| runtime)
}

/// Whether any is asked.
pub(super) fn any(config: &Config) -> bool {
    off(config).count() < Runtime::ALL.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_places_are_the_hosts_and_others_are_taken_as_they_are() {
        let mut config = RuntimeClient::default();
        let usual = part::<Crio>(&config, &["/run/a.sock"], Path::new("/proc/1/root")).unwrap();
        assert_eq!(usual.sockets, [Path::new("/proc/1/root/run/a.sock")]);
        config.sockets = vec!["/x.sock".into()];
        let other = part::<Crio>(&config, &["/run/a.sock"], Path::new("/proc/1/root")).unwrap();
        assert_eq!(other.sockets, [Path::new("/x.sock")]);
        config.enabled = false;
        assert!(part::<Crio>(&config, &[], Path::new("/")).is_none());
    }
}
