//! systemd, by way of the system's bus.
//!
//! Its own socket, `/run/systemd/private`, is no way: there it signs with a name that zbus refuses in a sender.
//!
//! Units are looked at, never loaded: a question must not change what is asked about, and a unit that has processes is
//! loaded anyway.

mod signals;
mod socket;

#[cfg(test)]
mod tests;

use super::{
    Change, Client, Lookup, Runtime, RuntimeError,
    metadata::{Metadata, Unit, limits},
};
use futures_util::{StreamExt, future::try_join4};
use serde::Serialize;
use signals::News;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, OwnedPermit},
    },
    task::JoinHandle,
    time::timeout,
};
use zbus::{
    Connection, DynamicType, Message, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant, connection::Builder,
    fdo,
};

/// Where a socket is looked for if none is configured.
pub const SOCKETS: [&str; 1] = ["/run/dbus/system_bus_socket"];

const BUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// So that a bus that hangs leaves time for the next socket.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(900);
/// A reload announces each unit of the host. Whoever does not fetch what was announced until then has missed something,
/// and is told so.
const MAX_CHANGES: usize = 4096;

pub struct Systemd {
    connection: Connection,
    /// systemd's own name on the bus.
    manager: String,
    changes: Mutex<mpsc::Receiver<Result<Change, RuntimeError>>>,
    pump: JoinHandle<()>,
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Client for Systemd {
    const RUNTIME: Runtime = Runtime::Systemd;

    async fn connect(sockets: &[PathBuf]) -> Result<Self, RuntimeError> {
        let known = SOCKETS.map(PathBuf::from);
        let sockets = if sockets.is_empty() { known.as_slice() } else { sockets };
        let mut failure = None;
        for path in sockets {
            let connected = timeout(CONNECT_TIMEOUT, Self::over(path)).await;
            let connected = connected.unwrap_or(Err(RuntimeError::Deadline {
                op: "connect",
                after: CONNECT_TIMEOUT,
            }));
            match connected {
                Ok(client) => return Ok(client),
                Err(RuntimeError::Connect { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(err) => failure = failure.or(Some(err)),
            }
        }
        Err(failure.unwrap_or_else(|| RuntimeError::NoSocket {
            runtime: Self::RUNTIME.as_str(),
            paths: sockets.to_vec(),
        }))
    }

    async fn inspect(&self, lookup: &Lookup) -> Result<Option<Metadata>, RuntimeError> {
        let Lookup::Unit { unit } = lookup else {
            return Ok(None);
        };
        // What a cgroup gets in front that would else be called like one of the kernel's own files.
        let name = unit.strip_prefix('_').unwrap_or(unit);
        if !signals::is_unit_name(name) {
            return Ok(None);
        }
        let Some(answer) = known(self.manager_call("GetUnit", &name).await, "GetUnit")? else {
            return Ok(None);
        };
        let object: OwnedObjectPath = answer.body().deserialize().map_err(|err| nonsense("GetUnit", &err))?;
        let (kind, triggered_by, description, pid) = try_join4(
            self.property(&object, SERVICE, "Type"),
            self.property(&object, UNIT, "TriggeredBy"),
            self.property(&object, UNIT, "Description"),
            self.property(&object, SERVICE, "MainPID"),
        )
        .await?;
        // Every unit has one: it was unloaded in between.
        let Some(description) = description else {
            return Ok(None);
        };
        let mut metadata = Metadata::new(Runtime::Systemd);
        metadata.set_name(name);
        metadata.pid = pid.and_then(|pid| pid.downcast_ref::<u32>().ok()).unwrap_or(0);
        let triggers = triggered_by.and_then(|value| Vec::<String>::try_from(value).ok());
        let first = triggers.and_then(|triggers| triggers.into_iter().next());
        metadata.unit = Some(Unit {
            kind: kind.as_ref().map(text).unwrap_or_default(),
            triggered_by: first.as_deref().map(cut).unwrap_or_default(),
            description: text(&description),
        });
        Ok(Some(metadata))
    }

    async fn next_change(&self) -> Result<Change, RuntimeError> {
        self.changes.lock().await.recv().await.unwrap_or_else(|| Err(closed()))
    }
}

impl Systemd {
    async fn over(path: &Path) -> Result<Self, RuntimeError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::InvalidData => nonsense("connect", &source),
            _ => RuntimeError::Connect {
                path: path.to_owned(),
                source,
            },
        };
        let (stream, guid) = socket::connect(path).await.map_err(refused)?;
        let builder = Builder::authenticated_socket(stream, guid.as_str());
        let connection = builder.build().await.map_err(|err| failed("connect", err))?;
        let manager = enter(&connection).await?;
        // From here on all that is announced is kept.
        let stream = MessageStream::from(&connection);
        let (sender, changes) = mpsc::channel(MAX_CHANGES + 1);
        let end = sender.clone().try_reserve_owned();
        let end = end.expect("nobody else has the channel yet");
        let pump = tokio::spawn(pump(stream, manager.clone(), sender, end));
        let client = Self {
            connection,
            manager,
            changes: Mutex::new(changes),
            pump,
        };
        client
            .manager_call("Subscribe", &())
            .await
            .map_err(|err| failed("Subscribe", err))?;
        Ok(client)
    }

    async fn manager_call<B>(&self, method: &str, body: &B) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType,
    {
        let manager = Some(self.manager.as_str());
        self.connection
            .call_method(manager, MANAGER_PATH, Some(MANAGER), method, body)
            .await
    }

    /// `None`: the object has no such property, or there is no such object.
    async fn property(
        &self,
        object: &ObjectPath<'_>,
        interface: &str,
        name: &str,
    ) -> Result<Option<OwnedVariant>, RuntimeError> {
        const OP: &str = "Get";
        let manager = Some(self.manager.as_str());
        let answer = self
            .connection
            .call_method(manager, object, Some(PROPERTIES), OP, &(interface, name))
            .await;
        let Some(answer) = known(answer, OP)? else {
            return Ok(None);
        };
        let value = answer.body().deserialize::<OwnedVariant>();
        value.map(Some).map_err(|err| nonsense(OP, &err))
    }
}

/// Makes the connection one of the bus, and asks it for what is announced. Gives systemd's own name.
async fn enter(connection: &Connection) -> Result<String, RuntimeError> {
    const PATH: &str = "/org/freedesktop/DBus";
    connection
        .call_method(Some(BUS), PATH, Some(BUS), "Hello", &())
        .await
        .map_err(|err| failed("Hello", err))?;
    // Before its name is asked for, so that it cannot leave unseen in between.
    for rule in signals::rules() {
        connection
            .call_method(Some(BUS), PATH, Some(BUS), "AddMatch", &rule.as_str())
            .await
            .map_err(|err| failed("AddMatch", err))?;
    }
    const OP: &str = "GetNameOwner";
    let answer = connection.call_method(Some(BUS), PATH, Some(BUS), OP, &SYSTEMD).await;
    let answer = answer.map_err(|err| failed(OP, err))?;
    answer.body().deserialize::<String>().map_err(|err| nonsense(OP, &err))
}

/// Reads on while nobody waits for a change: zbus stops to read answers as well when signals pile up.
async fn pump(
    mut stream: MessageStream,
    manager: String,
    changes: mpsc::Sender<Result<Change, RuntimeError>>,
    end: OwnedPermit<Result<Change, RuntimeError>>,
) {
    let reason = loop {
        let message = match stream.next().await {
            None => break closed(),
            Some(Err(err)) => break failed("signals", err),
            Some(Ok(message)) => message,
        };
        let change = match signals::read(&message, &manager) {
            None => continue,
            Some(News::ManagerLeft) => break gone("systemd left the bus"),
            Some(News::Change(change)) => change,
        };
        if changes.try_send(Ok(change)).is_err() {
            break gone("more changes than anybody fetched");
        }
    };
    end.send(Err(reason));
}

fn closed() -> RuntimeError {
    gone("the connection is closed")
}

fn gone(what: &'static str) -> RuntimeError {
    RuntimeError::Broken {
        op: "signals",
        source: what.into(),
    }
}

/// `None`: what was asked about is not there.
fn known(answer: zbus::Result<Message>, op: &'static str) -> Result<Option<Message>, RuntimeError> {
    use fdo::Error::{InvalidArgs, UnknownInterface, UnknownMethod, UnknownObject, UnknownProperty};
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => Ok(None),
        Err(zbus::Error::FDO(err))
            if matches!(
                *err,
                UnknownObject(_) | UnknownInterface(_) | UnknownProperty(_) | UnknownMethod(_) | InvalidArgs(_)
            ) =>
        {
            Ok(None)
        }
        Err(err) => Err(failed(op, err)),
    }
}

/// Of an answer that says no, the connection is none the worse.
fn failed(op: &'static str, err: zbus::Error) -> RuntimeError {
    use fdo::Error::{Disconnected, NameHasNoOwner, NoReply, ServiceUnknown};
    match &err {
        zbus::Error::InputOutput(source) if source.kind() == io::ErrorKind::InvalidData => nonsense(op, source),
        zbus::Error::MethodError(..) => nonsense(op, &err),
        zbus::Error::FDO(said) => match **said {
            Disconnected(_) | NameHasNoOwner(_) | NoReply(_) | ServiceUnknown(_) => broken(op, err),
            _ => nonsense(op, &err),
        },
        _ => broken(op, err),
    }
}

fn broken(op: &'static str, err: zbus::Error) -> RuntimeError {
    RuntimeError::Broken {
        op,
        source: Box::new(err),
    }
}

fn nonsense(op: &'static str, what: &impl ToString) -> RuntimeError {
    let what = cut(&what.to_string());
    RuntimeError::Nonsense { op, what }
}

fn text(value: &OwnedVariant) -> String {
    value.downcast_ref::<&str>().map(cut).unwrap_or_default()
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(limits::VALUE_BYTES);
    text.get(..end).unwrap_or_default().to_owned()
}
