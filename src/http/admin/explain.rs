//! `GET /api/v1/explain/{subject}`: a pid, or an address with its port.
//!
//! The registry tells by which of its rules it has decided, the facade of the runtimes what each of them has said, the
//! collector what /proc says now. Nothing is decided here.
use super::{ApiError, REGISTRY, SUPERVISOR};
use crate::{
    collect::worker::Placed,
    container::{destination::canonical, samples::Samples},
    http::{
        event::name,
        explained::{
            Address, Answer, Cgroup, Connects, Explained, Filter, Listens, Naming, Owner, Placed as PlacedBody,
            Process, Runtimes, Verdict,
        },
        scrape::{Faces, Silence, ask},
    },
    metrics::families::destination_labels,
    registry::{
        explain::{AddressExplained, Belongs, ExplainAddress, ExplainProcess, ProcessExplained},
        filters,
        identity::{self, OwnerExplained},
    },
    runtimes::{Lookup, facade::actor::ExplainLookup},
    supervisor::messages::{Containers, GetContainers},
};
use actix_web::web::{Data, Json, Path};
use std::{net::SocketAddr, sync::Arc};
use tokio::time::{Instant, timeout_at};

const MAX_LINES: usize = 64;
const PROC: &str = "/proc";

pub(super) async fn explain(faces: Data<Faces>, subject: Path<String>) -> Result<Json<Explained>, ApiError> {
    let subject = subject.into_inner();
    if let Ok(pid) = subject.parse() {
        return Ok(Json(Explained::Process(Box::new(process(&faces, pid).await?))));
    }
    match subject.parse() {
        Ok(address) => Ok(Json(Explained::Address(of_address(&faces, address).await?))),
        Err(_neither) => Err(ApiError::NoSubject { subject }),
    }
}

async fn process(faces: &Faces, pid: u32) -> Result<Process, ApiError> {
    let deadline = faces.deadline();
    let list = ask(faces.containers.send(GetContainers), deadline).await;
    let list = list.map_err(faces.silent(SUPERVISOR))?;
    let explainer = list.explain.as_ref().ok_or(ApiError::Gone { who: REGISTRY })?;
    let explained = ask(explainer.process.send(ExplainProcess { tgid: pid }), deadline).await;
    let explained = explained.map_err(faces.silent(REGISTRY))?;
    let placed = look(faces, pid, deadline).await?;
    let (placed, explained) = match (placed, explained) {
        (Some(placed), _) if placed.process.kernel_thread => return Err(ApiError::KernelThread { pid }),
        (Some(_), _) if pid == faces.own_tgid => return Err(ApiError::Own { pid }),
        (Some(placed), Some(explained)) if is_same(&placed, &explained) && !explained.exited => (placed, explained),
        (Some(_), _) => return Err(ApiError::Unknown { pid }),
        (None, Some(_)) => return Err(ApiError::Ended { pid }),
        (None, None) => return Err(ApiError::NoProcess { pid }),
    };
    let lookup = explained.name.as_ref().and_then(|name| name.lookup.clone());
    let runtimes = match lookup {
        Some(lookup) => Some(runtimes(faces, &list, lookup, deadline).await),
        None => None,
    };
    Ok(body(
        placed,
        explained,
        runtimes,
        &faces.config.get().identity.cgroup_root,
    ))
}

/// The pid may have been given to another meanwhile.
fn is_same(placed: &Placed, explained: &ProcessExplained) -> bool {
    let cut = crate::collect::processes::cut_to_tick;
    cut(placed.process.key.start_ns) == cut(explained.process.start_ns)
}

async fn look(faces: &Faces, pid: u32, deadline: Instant) -> Result<Option<Placed>, ApiError> {
    let worker = Arc::clone(&faces.worker);
    let look = actix_rt::task::spawn_blocking(move || worker.placed(pid));
    match timeout_at(deadline, look).await {
        Ok(Ok(Ok(placed))) => Ok(placed),
        Ok(Ok(Err(source))) => Err(ApiError::Unreadable { pid, source }),
        Ok(Err(_panicked)) => Err(faces.silent(PROC)(Silence::Gone)),
        Err(_elapsed) => Err(faces.silent(PROC)(Silence::Late)),
    }
}

/// Without their answers the rest is still worth telling.
async fn runtimes(faces: &Faces, list: &Containers, lookup: Lookup, deadline: Instant) -> Runtimes {
    let asked_for = match &lookup {
        Lookup::Engine { id, .. } => format!("container {id}"),
        Lookup::Named { namespace, name } => format!("container {name} in {namespace}"),
        Lookup::Unit { unit } => format!("unit {unit}"),
    };
    let said = match &list.runtimes {
        Some(facade) => ask(facade.send(ExplainLookup(lookup)), deadline).await.ok().flatten(),
        None => None,
    };
    if said.is_none() {
        slog::debug!(faces.ctx.log, "the runtimes did not say what they were asked");
    }
    let answers = said.unwrap_or_default().into_iter().map(|(runtime, said)| Answer {
        runtime: runtime.as_str().to_owned(),
        answer: said.as_str().to_owned(),
    });
    Runtimes {
        asked_for,
        answers: answers.collect(),
    }
}

fn body(placed: Placed, of: ProcessExplained, runtimes: Option<Runtimes>, cgroup_root: &str) -> Process {
    let lines = placed.file.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let lines = lines
        .take(MAX_LINES)
        .map(|line| String::from_utf8_lossy(line).into_owned());
    let text = |text: &'static str| text.to_owned();
    let (container_id, shown, why_none) = match of.belongs {
        Belongs::To { id, shown } => (Some(id.to_string()), shown, None),
        Belongs::WaitsForPath => (None, false, Some("path_awaited")),
        Belongs::WaitsForRuntime => (None, false, Some("runtime_awaited")),
        Belongs::Nowhere(reason) => (None, false, Some(reason.as_str())),
    };
    Process {
        pid: of.process.tgid,
        name: name(&of.comm),
        start_boottime_ns: of.process.start_ns,
        cgroup: Cgroup {
            file: lines.collect(),
            path: placed.path.path.to_string(),
            rule: text(placed.rule.as_str()),
            removed: placed.path.removed,
            cgroup_root: cgroup_root.to_owned(),
        },
        placed: PlacedBody {
            by: text(if of.cgroup.is_some() { "cgroup" } else { "proc" }),
            cgroup_id: of.cgroup.map(|cgroup| cgroup.0),
            same: of.path.as_ref() == Some(&placed.path.path),
            path: of.path.map(|path| path.to_string()),
        },
        owner: of.owner.map(owner),
        runtimes,
        naming: of.name.map(|name| Naming {
            state: text(name.state.as_str()),
            rule: name.rule.map(text),
        }),
        filter: of.filter.map(|filter| Filter {
            id: filter.id.to_string(),
            verdict: text(match filter.verdict {
                filters::Verdict::Shown => "shown",
                filters::Verdict::Hidden(reason) => reason.as_str(),
            }),
            pattern: filter.pattern,
        }),
        container_id,
        shown,
        why_none: why_none.map(text),
    }
}

fn owner(of: OwnerExplained) -> Owner {
    let (is, id) = match &of.owner {
        identity::Owner::Container(id) => ("container", Some(id.to_string())),
        identity::Owner::Perhaps(id) => ("perhaps", Some(id.to_string())),
        identity::Owner::Standalone => ("standalone", None),
        identity::Owner::Ignored(reason) => (reason.as_str(), None),
    };
    Owner {
        rule: of.rule.map(str::to_owned),
        passed: of.passed.into_iter().map(str::to_owned).collect(),
        is: is.to_owned(),
        id,
    }
}

async fn of_address(faces: &Faces, address: SocketAddr) -> Result<Address, ApiError> {
    let (address, deadline) = (canonical(address), faces.deadline());
    let list = ask(faces.containers.send(GetContainers), deadline).await;
    let list = list.map_err(faces.silent(SUPERVISOR))?;
    let explainer = list.explain.as_ref().ok_or(ApiError::Gone { who: REGISTRY })?;
    let explained = ask(explainer.address.send(ExplainAddress(address)), deadline).await;
    let explained = explained.map_err(faces.silent(REGISTRY))?;
    let collected = faces.collect(deadline).await.map_err(faces.silent(SUPERVISOR))?;
    let (mut connects, mut listens) = (Vec::new(), Vec::new());
    let text = address.to_string();
    for container in Samples::merge(&collected.samples) {
        for to in &container.destinations {
            let (destination, actual_destination) = destination_labels(to);
            if destination == text || actual_destination == text {
                connects.push(Connects {
                    container_id: container.id.to_string(),
                    destination,
                    actual_destination,
                    active: to.active,
                });
            }
        }
        for listen in &container.listens {
            let any = |at: &SocketAddr| at.ip().is_unspecified() && (at.is_ipv6() || address.is_ipv4());
            let fits = |at: &SocketAddr| *at == address || (any(at) && at.port() == address.port());
            if let Some(at) = listen.address.filter(fits) {
                listens.push(Listens {
                    container_id: container.id.to_string(),
                    address: at.to_string(),
                    open: listen.open,
                });
            }
        }
    }
    Ok(Address {
        address: text,
        connects,
        listens,
        verdicts: verdicts(&explained).into(),
        late: collected.late,
    })
}

fn verdicts(of: &AddressExplained) -> [Verdict; 5] {
    let [connect_from_host, connect_from_container] = of.connects;
    let [accept_in_host, accept_in_container] = of.accepts;
    [
        ("connect_from_host", connect_from_host),
        ("connect_from_container", connect_from_container),
        ("accept_in_host", accept_in_host),
        ("accept_in_container", accept_in_container),
        ("listen", of.listens),
    ]
    .map(|(socket, hidden_by)| Verdict {
        socket: socket.to_owned(),
        hidden_by: hidden_by.map(|reason| reason.as_str().to_owned()),
    })
}
