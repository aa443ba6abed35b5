//! The reasons that are told are those by which was decided.
use super::{names, *};
use crate::registry::{
    explain::{Belongs, NameState, ProcessExplained},
    filters::{HiddenReason, Verdict},
};
use crate::runtimes::Found;

const A: CgroupId = CgroupId(7);

fn explained(registry: &RegistryState, tgid: u32) -> ProcessExplained {
    registry.explain(tgid).unwrap()
}

fn to(id: &str, shown: bool) -> Belongs {
    Belongs::To { id: id.into(), shown }
}

#[test]
fn a_service() {
    let mut registry = registry();
    assert!(registry.explain(5).is_none());
    registry.apply([started(owner(5, A, "app"), 1)], now(1));
    let waits = explained(&registry, 5);
    assert_eq!(
        (waits.belongs, waits.path, waits.cgroup),
        (Belongs::WaitsForPath, None, Some(A))
    );
    let path = Some("/system.slice/web.service/inner".into());
    registry.answer(Answer::Cgroup { cgroup: A, path }, now(1));
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, to("/system.slice/web.service", true));
    assert_eq!(of.path.as_deref(), Some("/system.slice/web.service/inner"));
    let owner = of.owner.unwrap();
    assert_eq!(owner.rule, Some("systemd"));
    assert!(owner.passed.ends_with(&["docker", "talos"]), "{:?}", owner.passed);
    let name = of.name.unwrap();
    assert_eq!((name.state, name.rule), (NameState::NotAsked, None));
    assert_eq!(of.filter.unwrap().verdict, Verdict::Shown);
    assert!(!of.exited);
    registry.apply([exited(super::owner(5, A, "app"))], now(2));
    assert!(explained(&registry, 5).exited);
}

#[test]
fn a_bare_process_by_what_is_made_of_bare_ones() {
    for (standalone, expected) in [
        (Standalone::ByName, to("/standalone/sh", true)),
        (Standalone::PerProcess, to("/standalone/sh/5", true)),
        (Standalone::Off, Belongs::Nowhere(Reason::StandaloneOff)),
    ] {
        let mut registry = RegistryState::new(settings(standalone), node());
        registry.inventory(&inventory([found(5, "sh", "/user.slice/x")]), now(1));
        let of = explained(&registry, 5);
        assert_eq!(of.belongs, expected);
        assert_eq!((of.cgroup, of.name.is_none()), (None, true));
        assert_eq!(of.owner.unwrap().rule, Some("users_and_init"));
    }
}

#[test]
fn plumbing() {
    let mut registry = registry();
    registry.inventory(&inventory([found(5, "conmon", "/a/crio-conmon-1.scope")]), now(1));
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, Belongs::Nowhere(Reason::Ignored));
    assert_eq!(of.owner.unwrap().rule, Some("container_monitor"));
}

#[test]
fn a_container_and_its_name() {
    let mut registry = names::asking(false, &["^/docker/secret"]);
    let lookup = names::one(&mut registry, A, names::X, 2, 5);
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, to(names::OF_PATH, false));
    let name = of.name.unwrap();
    assert_eq!((name.state, name.lookup), (NameState::Waits, Some(lookup.clone())));

    names::told(&mut registry, &lookup, names::called("web"), 3);
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, to("/docker/web", true));
    let name = of.name.unwrap();
    assert_eq!((name.state, name.rule), (NameState::Named, Some("by_name")));
    assert_eq!(of.filter.unwrap().id.as_str(), "/docker/web");

    names::told(&mut registry, &lookup, names::called("secret-1"), 4);
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, Belongs::Nowhere(Reason::Filtered));
    let filter = of.filter.unwrap();
    assert_eq!(filter.id.as_str(), "/docker/secret-1");
    assert_eq!(filter.verdict, Verdict::Hidden(HiddenReason::Denied));
    assert_eq!(filter.pattern.as_deref(), Some("^/docker/secret"));
    assert_eq!(of.name.unwrap().state, NameState::Filtered);
}

#[test]
fn a_path_that_may_be_a_containers() {
    let mut registry = names::asking(false, &[]);
    let lookup = names::named_by_path(&mut registry, 5);
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, Belongs::WaitsForRuntime);
    assert_eq!(of.owner.unwrap().rule, Some("containerd_by_name"));
    names::told(&mut registry, &lookup, Found::Nobody, 3);
    let of = explained(&registry, 5);
    assert_eq!(of.belongs, to("/standalone/app", true));
    assert_eq!(of.name.unwrap().state, NameState::Path);
}

#[test]
fn addresses() {
    let registry = registry();
    let fates = |address: &str| {
        let of = registry.explain_address(address.parse().unwrap());
        let text = |reason: Option<Reason>| reason.map_or("shown", Reason::as_str);
        [of.connects[0], of.connects[1], of.accepts[0], of.accepts[1], of.listens].map(text)
    };
    assert_eq!(fates("10.0.0.1:80"), ["shown"; 5]);
    assert_eq!(fates("10.0.0.1:40000"), ["ephemeral_port"; 5]);
    let loopback = "loopback_in_container";
    assert_eq!(fates("127.0.0.1:80"), ["shown", loopback, "shown", loopback, "shown"]);
    let local = "link_local";
    assert_eq!(fates("169.254.0.1:80"), [local, local, "shown", "shown", "shown"]);
}

#[test]
fn who_is_in_a_container() {
    let mut registry = registry();
    let service = |tgid| found(tgid, "nginx", "/system.slice/nginx.service");
    registry.inventory(&inventory([service(2), found(3, "sh", "/"), service(4)]), now(1));
    let members = |registry: &RegistryState, id: &str| registry.members(&id.into()).map(Vec::from_iter);
    let nginx = "/system.slice/nginx.service";
    assert_eq!(members(&registry, nginx), Some(vec![2, 4]));
    assert_eq!(members(&registry, "/standalone/sh"), Some(vec![3]));
    assert_eq!(members(&registry, "/nowhere"), None);
    registry.apply(
        [started(owner(5, ROOT, "nginx"), 2), exited(owner(2, ROOT, "nginx"))],
        now(2),
    );
    assert_eq!(members(&registry, nginx), Some(vec![4, 5]));
}
