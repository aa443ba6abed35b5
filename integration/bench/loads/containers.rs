//! A thousand containers, each with a process that connects some times when it is told to; eight at once.
use super::{Load, Scene};
use crate::{interrupt, tools::Outcome};
use anyhow::{Context as _, Result, anyhow};
use std::{
    collections::BTreeSet,
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::Mutex,
    thread,
};
use tarsier_integration::{Cgroup, Place, Running, Stopwatch};

const CONTAINERS: usize = 1_000;
const AT_ONCE: usize = 8;
/// Of each container, for every second that a measurement shall take, roughly.
const CONNECTS: u64 = 10;
/// The verb by which this program is the process in a container.
pub(crate) const MEMBER: &str = "member";

struct Containers {
    members: Vec<Member>,
    _server: Running,
    groups: Vec<Cgroup>,
    scene: Scene,
}

pub(super) fn prepare() -> Result<Box<dyn Load>> {
    let scene = Scene::new()?;
    let address = scene.address().to_string();
    let server = scene
        .server()
        .start(&["serve", &address, "--read", "100", "--answer", "100"]);
    let mut load = Containers {
        members: Vec::new(),
        _server: server,
        groups: Vec::new(),
        scene,
    };
    for _ in 0..CONTAINERS {
        interrupt::check()?;
        let group = Cgroup::service("one");
        let place = Place::new().cgroup(&group).netns(&load.scene.netns);
        load.members.push(Member::start(place, &address)?);
        load.groups.push(group);
    }
    Ok(Box::new(load))
}

impl Load for Containers {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn clients(&self) -> BTreeSet<String> {
        self.groups.iter().map(|group| group.id().to_owned()).collect()
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        let queue = Mutex::new(self.members.iter_mut());
        let next = || queue.lock().expect("nothing panics while it holds the lock").next();
        let connect = || -> Result<[u64; 2]> {
            let mut sums = [0, 0];
            while let Some(member) = next() {
                interrupt::check()?;
                let [connected, failed] = member.connect(CONNECTS * seconds)?;
                sums = [sums[0] + connected, sums[1] + failed];
            }
            Ok(sums)
        };
        let watch = Stopwatch::start();
        let parts = thread::scope(|scope| {
            let threads = [(); AT_ONCE].map(|()| scope.spawn(connect));
            threads.map(|thread| thread.join().map_err(|_panic| anyhow!("a thread failed"))?)
        });
        let elapsed = watch.elapsed().as_secs_f64();
        let (mut connected, mut errors) = (0, 0);
        for part in parts {
            let [of_part, failed] = part?;
            connected += of_part;
            errors += failed;
        }
        Ok(Outcome {
            units: connected as f64,
            per_second: connected as f64 / elapsed,
            p99_ms: None,
            errors,
        })
    }
}

struct Member {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Member {
    fn start(place: Place<'_>, address: &str) -> Result<Self> {
        let mut command = place.command(env::current_exe()?);
        let command = command
            .args([MEMBER, address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (orders, reports) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            child,
            orders: orders.context("piped")?,
            reports: BufReader::new(reports.context("piped")?),
        })
    }

    /// How many came about, and how many did not.
    fn connect(&mut self, count: u64) -> Result<[u64; 2]> {
        writeln!(self.orders, "{count}")?;
        let mut report = String::new();
        self.reports.read_line(&mut report)?;
        let failed: u64 = report.trim().parse().context("a process in a container has ended")?;
        Ok([count - failed, failed])
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The other side of it: ends with its standard input.
pub(crate) fn be_member(address: &str) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    for order in io::stdin().lines() {
        let count: u64 = order?.parse()?;
        let failed = (0..count).filter(|_| exchange(address).is_err()).count();
        writeln!(io::stdout(), "{failed}")?;
    }
    Ok(())
}

fn exchange(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&[b'q'; 100])?;
    // The server closes first, so TIME_WAIT is on its side, and no port is used up here.
    stream.read_exact(&mut [0; 100])?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
