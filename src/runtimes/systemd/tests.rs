use super::{socket::Stream, *};
use crate::runtimes::Engines;
use std::{collections::HashMap, future::Future, sync::Arc};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::oneshot,
};
use zbus::{Variant, message::Type};

const OWNER: &str = ":1.7";
const GUID: &str = "0123456789abcdef0123456789abcdef";
const WEB: &str = "/org/freedesktop/systemd1/unit/web_2eservice";

type Properties = HashMap<(&'static str, &'static str), Variant<'static>>;

/// Answers as a bus with a systemd that knows `web.service`, of which it says what `properties` say.
struct Fake {
    _folder: TempDir,
    path: PathBuf,
    /// The bus's end of the first connection.
    connection: oneshot::Receiver<Connection>,
}

fn listen<F>(serve: impl FnOnce(UnixStream) -> F + Send + 'static) -> (TempDir, PathBuf)
where
    F: Future<Output = ()> + Send,
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    (folder, path)
}

async fn expect(stream: &UnixStream, text: &[u8]) {
    let mut got = Vec::new();
    while got.len() < text.len() {
        stream.readable().await.unwrap();
        let mut buffer = vec![0; text.len() - got.len()];
        match stream.try_read(&mut buffer) {
            Ok(read) => got.extend_from_slice(&buffer[..read]),
            Err(err) => assert_eq!(err.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(got, text);
}

impl Fake {
    fn new(properties: Properties) -> Self {
        let (send, connection) = oneshot::channel();
        let (folder, path) = listen(|stream| async move {
            expect(&stream, b"\0AUTH EXTERNAL\r\nDATA\r\n").await;
            stream.try_write(format!("DATA\r\nOK {GUID}\r\n").as_bytes()).unwrap();
            expect(&stream, b"BEGIN\r\n").await;
            // zbus does not mind which end it is.
            let connection = Builder::authenticated_socket(Stream(stream), GUID)
                .build()
                .await
                .unwrap();
            let mut calls = MessageStream::from(&connection);
            send.send(connection.clone()).unwrap();
            while let Some(Ok(call)) = calls.next().await {
                if call.message_type() == Type::MethodCall {
                    answer(&connection, &call, &properties).await;
                }
            }
        });
        Self {
            _folder: folder,
            path,
            connection,
        }
    }

    async fn client(&self) -> Systemd {
        Systemd::connect(std::slice::from_ref(&self.path)).await.unwrap()
    }
}

async fn answer(connection: &Connection, call: &Message, properties: &Properties) {
    let header = call.header();
    let body = call.body();
    let refuse = async |name: &str| connection.reply_error(&header, name, &"no").await.unwrap();
    match header.member().unwrap().as_str() {
        "Hello" => connection.reply(&header, &":1.9").await.unwrap(),
        "GetNameOwner" => connection.reply(&header, &OWNER).await.unwrap(),
        "GetUnit" => match body.deserialize::<&str>().unwrap() {
            "web.service" => connection
                .reply(&header, &OwnedObjectPath::try_from(WEB).unwrap())
                .await
                .unwrap(),
            "odd.service" => connection.reply(&header, &7u32).await.unwrap(),
            "secret.service" => refuse("org.freedesktop.DBus.Error.AccessDenied").await,
            "orphan.service" => refuse("org.freedesktop.DBus.Error.NameHasNoOwner").await,
            _ => refuse("org.freedesktop.systemd1.NoSuchUnit").await,
        },
        "Get" => {
            let (interface, name) = body.deserialize::<(&str, &str)>().unwrap();
            let value = properties.iter().find(|(key, _)| **key == (interface, name));
            match value {
                Some((_, value)) => connection.reply(&header, value).await.unwrap(),
                None => refuse("org.freedesktop.DBus.Error.UnknownProperty").await,
            }
        }
        _ => connection.reply(&header, &()).await.unwrap(),
    }
}

fn web() -> Properties {
    HashMap::from([
        ((SERVICE, "Type"), Variant::from("notify")),
        ((SERVICE, "MainPID"), Variant::from(42u32)),
        ((UNIT, "TriggeredBy"), Variant::from(vec!["web.timer", "web.path"])),
        ((UNIT, "Description"), Variant::from("The web")),
    ])
}

fn unit(name: &str) -> Lookup {
    Lookup::Unit { unit: name.into() }
}

#[tokio::test]
async fn what_systemd_says_of_a_unit() {
    let fake = Fake::new(web());
    let client = fake.client().await;
    let metadata = client.inspect(&unit("web.service")).await.unwrap().unwrap();
    assert_eq!((metadata.name.as_str(), metadata.pid), ("web.service", 42));
    let expected = Unit {
        kind: "notify".to_owned(),
        triggered_by: "web.timer".to_owned(),
        description: "The web".to_owned(),
    };
    assert_eq!(metadata.unit, Some(expected));
    // As the cgroup of a unit is called that would look like a file of the kernel's.
    assert!(client.inspect(&unit("_web.service")).await.unwrap().is_some());

    for name in [
        "other.service",
        "",
        "web",
        "a/b.service",
        "a b.service",
        &"a".repeat(256),
    ] {
        assert_eq!(client.inspect(&unit(name)).await.unwrap(), None, "{name:?}");
    }
    let engine = Lookup::Engine {
        id: Arc::from("0"),
        engines: Engines::Any,
    };
    assert_eq!(client.inspect(&engine).await.unwrap(), None);
}

#[tokio::test]
async fn properties_may_be_of_any_type_and_size() {
    let long = "é".repeat(limits::VALUE_BYTES);
    let fake = Fake::new(HashMap::from([
        ((SERVICE, "Type"), Variant::from(7u32)),
        ((SERVICE, "MainPID"), Variant::from("42")),
        ((UNIT, "TriggeredBy"), Variant::from(vec![1u32, 2])),
        ((UNIT, "Description"), Variant::from(long)),
    ]));
    let client = fake.client().await;
    let metadata = client.inspect(&unit("web.service")).await.unwrap().unwrap();
    assert_eq!(metadata.pid, 0);
    let unit = metadata.unit.unwrap();
    assert_eq!((unit.kind.as_str(), unit.triggered_by.as_str()), ("", ""));
    assert_eq!(unit.description, "é".repeat(limits::VALUE_BYTES / 2));
}

#[tokio::test]
async fn a_slice_has_no_type_and_a_unit_may_go_while_it_is_asked_about() {
    let mut properties = web();
    properties.retain(|(interface, _), _| *interface == UNIT);
    let fake = Fake::new(properties);
    let metadata = fake
        .client()
        .await
        .inspect(&unit("web.service"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((metadata.pid, metadata.unit.unwrap().kind.as_str()), (0, ""));

    let fake = Fake::new(HashMap::new());
    assert_eq!(fake.client().await.inspect(&unit("web.service")).await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_told_from_a_lost_connection() {
    let fake = Fake::new(web());
    let client = fake.client().await;
    for (name, expected) in [
        ("odd.service", "nonsense"),
        ("secret.service", "nonsense"),
        ("orphan.service", "broken"),
    ] {
        let got = match client.inspect(&unit(name)).await {
            Err(RuntimeError::Nonsense { .. }) => "nonsense",
            Err(RuntimeError::Broken { .. }) => "broken",
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected, "{name}");
    }
    assert!(client.inspect(&unit("web.service")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_huge_answer_ends_the_connection() {
    let mut properties = web();
    properties.insert((UNIT, "Description"), Variant::from("x".repeat(9 << 20)));
    let fake = Fake::new(properties);
    let client = fake.client().await;
    let err = client.inspect(&unit("web.service")).await.unwrap_err();
    assert!(
        matches!(&err, RuntimeError::Nonsense { what, .. } if what.contains("bytes")),
        "{err:?}"
    );
    client.next_change().await.unwrap_err();
    client.inspect(&unit("web.service")).await.unwrap_err();
}

async fn announce(connection: &Connection, sender: &str, name: &str) {
    let body = (name, OwnedObjectPath::try_from(WEB).unwrap());
    let signal = Message::signal(MANAGER_PATH, MANAGER, "UnitNew").sender(sender);
    connection.send(&signal.build(&body).unwrap()).await.unwrap();
}

#[tokio::test]
async fn changes_are_heard_in_order_and_kept_while_nobody_listens() {
    let mut fake = Fake::new(web());
    let client = fake.client().await;
    let bus = (&mut fake.connection).await.unwrap();
    announce(&bus, ":1.8", "forged.service").await;
    for number in 0..200 {
        announce(&bus, OWNER, &format!("{number}.service")).await;
    }
    // More signals than zbus keeps are on the way, and yet an answer gets through.
    let asked = timeout(Duration::from_secs(5), client.inspect(&unit("web.service"))).await;
    assert!(asked.unwrap().unwrap().is_some());
    for number in 0..200 {
        let change = client.next_change().await.unwrap();
        assert_eq!(change, Change::Changed(format!("{number}.service").into()));
    }
}

#[tokio::test]
async fn whoever_fetches_too_late_is_told_that_something_is_missing() {
    let mut fake = Fake::new(web());
    let client = fake.client().await;
    let bus = (&mut fake.connection).await.unwrap();
    for _ in 0..=MAX_CHANGES {
        announce(&bus, OWNER, "a.service").await;
    }
    let given_up = async {
        while !client.pump.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), given_up).await.unwrap();
    for _ in 0..MAX_CHANGES {
        client.next_change().await.unwrap();
    }
    for _ in 0..2 {
        assert!(matches!(client.next_change().await, Err(RuntimeError::Broken { .. })));
    }
}

#[tokio::test]
async fn the_end_of_systemd_and_of_the_bus_is_an_error() {
    let mut fake = Fake::new(web());
    let client = fake.client().await;
    let bus = (&mut fake.connection).await.unwrap();
    let left = Message::signal("/org/freedesktop/DBus", BUS, "NameOwnerChanged");
    let left = left.sender(BUS).build(&(SYSTEMD, OWNER, "")).unwrap();
    bus.send(&left).await.unwrap();
    assert!(matches!(client.next_change().await, Err(RuntimeError::Broken { .. })));

    let mut fake = Fake::new(web());
    let client = fake.client().await;
    (&mut fake.connection).await.unwrap().close().await.unwrap();
    assert!(matches!(client.next_change().await, Err(RuntimeError::Broken { .. })));
    assert!(matches!(
        client.inspect(&unit("web.service")).await,
        Err(RuntimeError::Broken { .. })
    ));
}

#[tokio::test]
async fn sockets_of_strangers_are_left_for_the_next() {
    let says = |text: &'static [u8]| {
        listen(move |stream| async move {
            stream.try_write(text).unwrap();
            stream.readable().await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        })
    };
    let (_a, closes) = listen(|_| async {});
    let (_b, empty_lines) = says(b"\n\n\n");
    let (_c, http) = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let (_d, rejects) = says(b"REJECTED ANONYMOUS\r\nERROR\r\n");
    let (_e, endless) = says(&[b'x'; 4096]);
    let (_f, no_guid) = says(b"DATA\r\nOK me\r\n");
    let (_g, silent) = says(b"DATA\r\n");
    let fake = Fake::new(web());
    let missing = fake.path.with_file_name("missing");
    for (path, kind) in [
        (&closes, "connect"),
        (&empty_lines, "nonsense"),
        (&http, "nonsense"),
        (&rejects, "nonsense"),
        (&endless, "nonsense"),
        (&no_guid, "broken"),
        (&silent, "deadline"),
        (&missing, "no socket"),
    ] {
        let got = match Systemd::connect(std::slice::from_ref(path)).await {
            Err(RuntimeError::Connect { .. }) => "connect",
            Err(RuntimeError::Nonsense { .. }) => "nonsense",
            Err(RuntimeError::Broken { .. }) => "broken",
            Err(RuntimeError::Deadline { .. }) => "deadline",
            Err(RuntimeError::NoSocket { .. }) => "no socket",
            Ok(_) => "connected",
        };
        assert_eq!(got, kind, "{}", path.display());
    }
    Systemd::connect(&[missing, silent, fake.path.clone()]).await.unwrap();
}
