//! journald's native protocol: one datagram of fields per record, so that `journalctl CONTAINER_ID=…` works.
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr},
};
use slog::{Drain, KV, Key, Level, OwnedKVList, Record, Serializer, b, o, record};
use std::{
    cell::Cell,
    fmt::{self, Write as _},
    fs::File,
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

pub(super) struct Journald {
    socket: UnixDatagram,
    /// Sent to by path each time, so that a journald that comes late or again is found.
    path: PathBuf,
}

impl Journald {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            path: path.to_owned(),
        })
    }

    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.send_to(datagram, &self.path) {
            Err(err) if err.raw_os_error() == Some(libc::EMSGSIZE) => self.send_as_file(datagram),
            sent => sent.map(drop),
        }
    }

    /// What is too long for a datagram travels as a sealed file in memory.
    fn send_as_file(&self, datagram: &[u8]) -> io::Result<()> {
        let mut file = File::from(memfd_create(
            "tarsier-log",
            MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC,
        )?);
        file.write_all(datagram)?;
        fcntl_add_seals(
            &file,
            SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
        )?;
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let to = SocketAddrUnix::new(&self.path)?;
        sendmsg_addr(
            &self.socket,
            &to,
            &[IoSlice::new(&[])],
            &mut control,
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

impl Drain for Journald {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let mut fields = Fields::default();
        fields.put("MESSAGE", record.msg());
        fields.put("PRIORITY", &format_args!("{}", priority(record.level())));
        fields.put("SYSLOG_IDENTIFIER", &format_args!("tarsier"));
        record.kv().serialize(record, &mut fields)?;
        values.serialize(record, &mut fields)?;
        self.send(&fields.datagram)
    }
}

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Critical => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[derive(Default)]
struct Fields {
    datagram: Vec<u8>,
    value: String,
}

impl Fields {
    fn put(&mut self, name: &str, value: &fmt::Arguments<'_>) {
        self.value.clear();
        // Only a Display that refuses to be displayed fails; what it wrote until then is the value.
        self.value.write_fmt(*value).ok();
        self.datagram.extend_from_slice(name.as_bytes());
        if self.value.contains('\n') {
            self.datagram.push(b'\n');
            self.datagram
                .extend_from_slice(&(self.value.len() as u64).to_le_bytes());
        } else {
            self.datagram.push(b'=');
        }
        self.datagram.extend_from_slice(self.value.as_bytes());
        self.datagram.push(b'\n');
    }
}

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.put(&field_name(key), value);
        Ok(())
    }
}

/// journald silently leaves out a field whose name is not 1 to 64 of `A-Z 0-9 _`, or starts with a digit or `_`.
/// Such a key, and one that would pass for a field of ours, gets a prefix instead of getting lost.
fn field_name(key: &str) -> String {
    let mut name: String = key
        .chars()
        .map(|c| match c.to_ascii_uppercase() {
            c @ ('A'..='Z' | '0'..='9') => c,
            _ => '_',
        })
        .collect();
    let starts_well = name.starts_with(|c: char| c.is_ascii_uppercase());
    if !starts_well || matches!(name.as_str(), "MESSAGE" | "PRIORITY" | "SYSLOG_IDENTIFIER") {
        name.insert_str(0, "F_");
    }
    name.truncate(64);
    name
}

/// Where the first drain fails the second takes over, record by record, and says why once.
pub(super) struct OrElse<A, B> {
    first: A,
    second: B,
    /// Until the first takes a record again.
    warned: Cell<bool>,
}

impl<A, B> OrElse<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self {
            first,
            second,
            warned: Cell::new(false),
        }
    }
}

impl<A, B> Drain for OrElse<A, B>
where
    A: Drain<Ok = (), Err = io::Error>,
    B: Drain<Ok = (), Err = io::Error>,
{
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let Err(err) = self.first.log(record, values) else {
            self.warned.set(false);
            return Ok(());
        };
        if !self.warned.replace(true) {
            let kv = b!("error" => #&err);
            let text = format_args!("journald takes no records, they go to stderr");
            self.second
                .log(&record!(Level::Warning, "", &text, kv), &OwnedKVList::from(o!()))?;
        }
        self.second.log(record, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{clock::ManualClock, logging::text};
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use slog::{Logger, crit, debug, error, info, warn};
    use std::{
        collections::BTreeMap,
        io::{IoSliceMut, Read, Seek},
        sync::{Arc, Mutex},
    };
    use tempfile::TempDir;

    fn journal() -> (TempDir, PathBuf, UnixDatagram) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        (dir, path, journal)
    }

    fn logger<D: Drain + Send + 'static>(drain: D) -> Logger {
        Logger::root(Mutex::new(drain).ignore_res(), o!())
    }

    fn receive(journal: &UnixDatagram) -> Vec<u8> {
        let mut datagram = vec![0; 4096];
        let len = journal.recv(&mut datagram).unwrap();
        datagram.truncate(len);
        datagram
    }

    /// Reads the protocol back, by its own rules: `NAME=value`, or `NAME`, length and value.
    fn parse(mut rest: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|b| matches!(b, b'=' | b'\n')).unwrap();
            let (name, value) = (&rest[..end], &rest[end + 1..]);
            let (value, after) = if rest[end] == b'=' {
                value.split_at(value.iter().position(|b| *b == b'\n').unwrap())
            } else {
                let (len, value) = value.split_first_chunk::<8>().unwrap();
                value.split_at(u64::from_le_bytes(*len) as usize)
            };
            assert_eq!(after[0], b'\n');
            rest = &after[1..];
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(fields.insert(text(name), text(value)), None, "{:?} twice", text(name));
        }
        fields
    }

    #[test]
    fn fields_arrive_as_the_protocol_wants_them() {
        let (_dir, path, journal) = journal();
        let log = logger(Journald::new(&path).unwrap()).new(o!("component" => "registry"));
        warn!(log, "call failed"; "container_id" => "/a", "2nd-try" => true, "message" => "mine", "error" => "a\nb");
        let datagram = receive(&journal);
        let expected = [
            ("MESSAGE", "call failed"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "tarsier"),
            ("COMPONENT", "registry"),
            ("CONTAINER_ID", "/a"),
            ("F_2ND_TRY", "true"),
            ("F_MESSAGE", "mine"),
            ("ERROR", "a\nb"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse(&datagram), BTreeMap::from(expected));
        let has = |bytes: &[u8]| datagram.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(b"MESSAGE=call failed\nPRIORITY=4\nSYSLOG_IDENTIFIER=tarsier\n"));
        assert!(has(b"ERROR\n\x03\0\0\0\0\0\0\0a\nb\n"));
    }

    #[test]
    fn levels_become_priorities() {
        let (_dir, path, journal) = journal();
        let log = logger(Journald::new(&path).unwrap());
        crit!(log, "");
        error!(log, "");
        warn!(log, "");
        info!(log, "");
        debug!(log, "");
        let priorities = [(); 5].map(|()| parse(&receive(&journal))["PRIORITY"].clone());
        assert_eq!(priorities, ["2", "3", "4", "6", "7"]);
    }

    #[test]
    fn names_keep_to_the_rules_of_journald() {
        assert_eq!(field_name("elapsed_ms"), "ELAPSED_MS");
        assert_eq!(field_name("_pid"), "F__PID");
        assert_eq!(field_name("größe"), "GR__E");
        assert_eq!(field_name(""), "F_");
        assert_eq!(field_name("priority"), "F_PRIORITY");
        assert_eq!(field_name("a".repeat(99).as_str()), "A".repeat(64));
    }

    #[test]
    fn a_record_too_long_for_a_datagram_travels_as_a_sealed_file() {
        let (_dir, path, journal) = journal();
        let log = logger(Journald::new(&path).unwrap());
        let long = "x".repeat(4 << 20);
        info!(log, "long"; "value" => &long);

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 16];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&journal, &mut buffers, &mut control, RecvFlags::empty()).unwrap();
        assert_eq!(received.bytes, 0);
        let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
            panic!("no file came")
        };
        let mut file = File::from(fds.next().unwrap());
        assert!(rustix::fs::fcntl_get_seals(&file).unwrap().contains(SealFlags::WRITE));
        let mut datagram = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut datagram).unwrap();
        assert_eq!(parse(&datagram)["VALUE"], long);
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let line: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            self.0.lock().unwrap().push(line["msg"].as_str().unwrap().to_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn without_journald_records_go_to_stderr_after_one_warning() {
        let (_dir, path, journal) = journal();
        std::fs::rename(&path, path.with_extension("away")).unwrap();
        let lines = Lines::default();
        let log = logger(OrElse::new(
            Journald::new(&path).unwrap(),
            text::json(lines.clone(), Arc::new(ManualClock::default())),
        ));
        let said = || std::mem::take(&mut *lines.0.lock().unwrap());
        let warning = "journald takes no records, they go to stderr";
        info!(log, "one");
        info!(log, "two");
        assert_eq!(said(), [warning, "one", "two"]);

        std::fs::rename(path.with_extension("away"), &path).unwrap();
        info!(log, "three");
        assert_eq!(parse(&receive(&journal))["MESSAGE"], "three");
        assert_eq!(said(), [""; 0]);

        drop(journal);
        info!(log, "four");
        assert_eq!(said(), [warning, "four"]);
    }
}
