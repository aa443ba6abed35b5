//! Real servers and clients for a machine that runs what runs here.
use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};
use tarsier_integration::{NOBODY, Postgres, find_tool, require_tool};
use tempfile::TempDir;

const TOOLS: [&str; 5] = ["nginx", "ab", "redis-server", "redis-benchmark", "redis-cli"];
/// No `/dev/shm` there, little memory and a slow processor. The server's own log says what it was asked.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1,::1'
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
shared_buffers = 16MB
fsync = off
autovacuum = off
jit = off
log_statement = all
";
/// What `pgbench -S` looks at, and a tenth of the rows that it asks for; then where the server's folders are. A line each: so
/// it wants to be told without a connection.
const TABLES: &str = "\
create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
insert into pgbench_branches values (1, 0);
create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
insert into pgbench_accounts select aid, 1, 0, '' from generate_series(1, 100000, 10) aid;
copy (select name, setting from pg_config) to stdout;
";

pub(crate) struct Servers {
    postgres: Postgres,
    /// PostgreSQL's own folders.
    library: String,
    share: String,
    folder: TempDir,
}

impl Servers {
    /// With a new cluster of PostgreSQL, which would take minutes to make there. `None` where something is missing.
    #[track_caller]
    pub(crate) fn prepare() -> Option<Self> {
        if !(require_tool(&TOOLS) && require_tool(&["setpriv"])) {
            return None;
        }
        let postgres = Postgres::find()?;
        let mut prefix = tempfile::Builder::new();
        let folder = prefix.prefix("tarsier-it-cluster-").tempdir();
        let folder = folder.expect("a temporary folder");
        let cluster = folder.path().join("data").display().to_string();
        fs::create_dir(folder.path().join("none")).expect("the folder is ours");
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("the folder is ours");
        let mut initdb = postgres.command("initdb");
        initdb.args(["-D", &cluster, "-U", "tester", "-A", "trust", "--no-sync"]);
        // Locales are not there.
        initdb.args(["--no-locale", "-E", "UTF8", "--wal-segsize", "1"]);
        run(initdb, "");
        for (name, text) in [
            ("postgresql.conf", SETTINGS),
            ("pg_hba.conf", "host all all all trust\n"),
        ] {
            fs::write(Path::new(&cluster).join(name), text).expect("the folder is ours");
        }
        let mut single = postgres.command("postgres");
        single.args(["--single", "-D", &cluster, "-c", "exit_on_error=on", "postgres"]);
        let printed = run(single, TABLES);
        let place = |name: &str| {
            let place = printed
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
            place.unwrap_or_else(|| panic!("no {name}: {printed}")).to_owned()
        };
        Some(Self {
            library: place("PKGLIBDIR"),
            share: place("SHAREDIR"),
            postgres,
            folder,
        })
    }

    /// Each at its place there, or at the same as here.
    pub(crate) fn files(&self) -> Vec<String> {
        let own = |name: &str| format!("{}/tests/kernels/{name}:/{name}", env!("CARGO_MANIFEST_DIR"));
        let tools = TOOLS.map(|tool| {
            let path = find_tool(tool).expect("it was there a moment ago");
            format!("{}:/bin/{tool}", path.display())
        });
        // Extensions would be in the one folder, which has to be there. Of the other only this is read.
        let none = self.folder.path().join("none");
        let mut files = vec![
            own("requests.sh"),
            own("nginx.conf"),
            format!("{}/data:/cluster", self.folder.path().display()),
            format!("{}:{}", none.display(), self.library),
            format!("{}/timezonesets", self.share),
        ];
        files.extend(tools);
        files.extend(["postgres", "pgbench", "psql"].map(|name| self.postgres.path(name)));
        files
    }

    /// What `requests.sh` has to know.
    pub(crate) fn environment(&self) -> String {
        format!("POSTGRES={}", self.postgres.folder().display())
    }
}

#[track_caller]
fn run(mut command: Command, input: &str) -> String {
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.current_dir("/").spawn().expect("setpriv starts");
    let mut stdin = child.stdin.take().expect("piped above");
    stdin.write_all(input.as_bytes()).expect("it reads what it is told");
    drop(stdin);
    let output = child.wait_with_output().expect("it is our child");
    let [printed, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {printed}{errors}");
    printed
}
