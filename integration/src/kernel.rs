//! Other kernels: each booted in QEMU, with the agent and the workload inside.
use crate::{Metrics, Sample, Script, binary, demand, place, require_root, require_tool};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

const DNSMASQ: &str = "/usr/sbin/dnsmasq";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Machine {
    Amd64,
    Arm64,
}

impl Machine {
    /// As Debian says.
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn emulator(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// As Rust says.
    fn arch(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// It runs what runs here.
    pub fn is_this(self) -> bool {
        self.arch() == std::env::consts::ARCH
    }
}

/// What is needed to boot any kernel on that machine, and the two programs built for it.
pub struct Emulator {
    machine: Machine,
    script: Script,
    programs: Programs,
    target: PathBuf,
    cache: PathBuf,
}

struct Programs {
    agent: PathBuf,
    workload: PathBuf,
}

impl Programs {
    /// Where they are to be there.
    fn files(&self, folder: &str) -> [String; 2] {
        let file = |path: &Path, name: &str| format!("{}:{folder}{name}", path.display());
        [file(&self.agent, "tarsier"), file(&self.workload, "workload")]
    }
}

/// A file, and the folder where it is to be there.
fn into(file: &Path, folder: &str) -> String {
    let name = file.file_name().expect("it is a file").display();
    format!("{}:{folder}{name}", file.display())
}

/// As `uname -r` says.
fn release(kernel: &str) -> &str {
    kernel.rsplit_once("vmlinuz-").map_or(kernel, |(_, release)| release)
}

/// What a boot left behind.
pub struct Boot {
    /// As `uname -r` says.
    pub release: String,
    pub console: String,
    target: PathBuf,
    machine: Machine,
}

impl Emulator {
    /// `None` where this machine lacks something. `target` is cargo's target folder: kernels and builds are kept there.
    #[must_use]
    #[track_caller]
    pub fn new(machine: Machine, target: &Path) -> Option<Self> {
        let tools = [machine.emulator(), "cpio", "apt-get", "dpkg-deb"];
        if !(require_root() && require_tool(&tools)) {
            return None;
        }
        if machine.is_this() && !demand("dnsmasq", Path::new(DNSMASQ).exists()) {
            return None;
        }
        let cache = target.join("tmp/kernels");
        Some(Self {
            machine,
            script: Script::new("kernel.sh").env("CACHE", cache.to_str().expect("a path is text")),
            programs: programs(machine, target)?,
            target: target.to_owned(),
            cache,
        })
    }

    /// Boots the kernel of a Debian package, or one given by its path, and runs `script` there, where `/tarsier`, `/workload` and
    /// `more` are: a file or folder each, or `from:to`.
    #[track_caller]
    pub fn boot(&self, kernel: &str, script: &str, more: &[String]) -> Boot {
        let kernel = match kernel {
            path if path.starts_with('/') => path.to_owned(),
            package => self.script.run(&["fetch", self.machine.name(), package]),
        };
        let mut files = self.programs.files("/").to_vec();
        // One that runs here runs there.
        files.extend(self.machine.is_this().then(|| format!("{DNSMASQ}:/dnsmasq")));
        files.extend_from_slice(more);
        self.run("run", &kernel, &[], script, &files)
    }

    /// Boots the kernel of a Debian package, with these of its modules and what they need, and systemd as the first process of a
    /// node with runtimes (`vm.sh`). It runs `script`, for bash; `files`, `tarsier` and `workload` are in `/it` there.
    #[track_caller]
    pub fn boot_system(&self, package: &str, modules: &[&str], files: &[PathBuf], script: &str) -> Boot {
        let cache = self.cache.to_str().expect("a path is text");
        let kernel = self.script.run(&["fetch", self.machine.name(), package]);
        // Not the newest ones, where the kernel is from an earlier day.
        let build = format!("linux-image-{}", release(&kernel));
        let modules = Script::new("modules.sh")
            .env("CACHE", cache)
            .run(&[&["fetch", &build], modules].concat());
        let disk = Script::new("vm.sh").env("CACHE", cache).run(&["image"]);
        let modules = modules.lines().map(|file| into(Path::new(file), "/modules/"));
        let files = files.iter().map(|file| into(file, "/it/"));
        let files = modules.chain(files).chain(self.programs.files("/it/"));
        self.run("system", &kernel, &[&disk], script, &files.collect::<Vec<_>>())
    }

    #[track_caller]
    fn run(&self, verb: &str, kernel: &str, more: &[&str], script: &str, files: &[String]) -> Boot {
        let file = self.script.folder().join("script");
        fs::write(&file, script).expect("the folder is ours");
        let mut words = vec![verb, self.machine.name(), kernel];
        words.extend(more);
        words.push(file.to_str().expect("a path is text"));
        words.extend(files.iter().map(String::as_str));
        let boot = Boot {
            release: release(kernel).to_owned(),
            console: self.emulate(&words),
            target: self.target.clone(),
            machine: self.machine,
        };
        let status = boot.console.lines().rev().find_map(|line| line.strip_prefix("status "));
        assert_eq!(status, Some("0"), "{}: {}", boot.release, boot.console);
        boot
    }

    /// Again, where the machine broke rather than what ran in it.
    #[track_caller]
    fn emulate(&self, arguments: &[&str]) -> String {
        let mut console = self.script.run(arguments);
        for _ in 0..2 {
            if !is_broken(&console) {
                break;
            }
            // Not eprintln: the test runner would swallow it.
            writeln!(io::stderr(), "the emulated machine broke: {console}").expect("stderr is open");
            console = self.script.run(arguments);
        }
        console
    }
}

/// A kernel patches its own code while it runs, and the emulator sometimes lets a processor run what is half patched. That is
/// before the script begins, or such an oops later; what else goes wrong in the script is its own.
fn is_broken(console: &str) -> bool {
    !console.contains("begins\n") || console.contains("Oops: int3")
}

#[track_caller]
fn programs(machine: Machine, target: &Path) -> Option<Programs> {
    if machine.is_this() {
        let (agent, workload) = (binary(), place::built("workload"));
        return Some(Programs { agent, workload });
    }
    if !demand("x86_64", machine != Machine::Amd64) {
        return None;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let build = Command::new(scripts.join("as.sh"))
        .arg("user")
        .arg(scripts.join("cross.sh"))
        .args([
            "build",
            "--profile",
            "emulated",
            "-p",
            "tarsier",
            "-p",
            "tarsier-integration",
            "--bins",
        ])
        .env("TARSIER_BPF", "require")
        .env("CARGO_TARGET_DIR", target)
        // cargo's, for tests of the toolchain that this was built with.
        .env_remove("LD_LIBRARY_PATH")
        .status();
    let status = build.expect("the script starts");
    if !demand("aarch64 toolchain", status.code() != Some(77)) {
        return None;
    }
    assert!(status.success(), "the programs do not build for aarch64: {status}");
    let built = target.join("aarch64-unknown-linux-gnu/emulated");
    Some(Programs {
        agent: built.join("tarsier"),
        workload: built.join("workload"),
    })
}

impl Boot {
    /// There was a `/dnsmasq`.
    pub fn has_name_server(&self) -> bool {
        self.machine.is_this()
    }

    /// What the script printed between `BEGIN name` and `END name`.
    #[track_caller]
    pub fn section(&self, name: &str) -> &str {
        let begun = self.console.split(&format!("BEGIN {name}\n")).nth(1);
        let section = begun.and_then(|rest| rest.split(&format!("END {name}\n")).next());
        section.unwrap_or_else(|| panic!("{}: no {name}: {}", self.release, self.console))
    }

    /// Keeps what `tarsier programs` said, in the section of that name.
    #[track_caller]
    pub fn keep_programs(&self) {
        let kernel = format!("{} {}", self.release, self.machine.arch());
        keep_programs(&self.target, &kernel, self.section("programs"));
    }
}

/// Puts a table of `tarsier programs` where `scripts/verifier-table.sh` finds it.
#[track_caller]
pub fn keep_programs(target: &Path, kernel: &str, table: &str) {
    let numbers = verified(table);
    assert!(!numbers.is_empty(), "{kernel}: {table}");
    if numbers.values().all(|&instructions| instructions == 0) {
        // Told since 5.16.
        return;
    }
    for (program, instructions) in &numbers {
        // The kernel refuses a program at a million, and the next compiler or kernel may need twice as many. Those that walk
        // through what is said are not so far from it; without them all the rest goes on.
        let limit = if program.starts_with("l7_") { 600_000 } else { 250_000 };
        assert!((1..limit).contains(instructions), "{kernel}: {program}: {instructions}");
    }
    let folder = target.join("verifier");
    fs::create_dir_all(&folder).expect("the target folder is ours");
    let lines: Vec<_> = numbers
        .iter()
        .map(|(program, instructions)| format!("{program} {instructions}\n"))
        .collect();
    fs::write(folder.join(kernel), lines.concat()).expect("the target folder is ours");
}

fn verified(table: &str) -> BTreeMap<&str, u64> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?.parse().ok()?))
    });
    rows.collect()
}

/// The features that do not work, by their metric.
pub fn lacking(metrics: &Metrics) -> BTreeSet<String> {
    let rows = metrics.all("tarsier_feature_state", &[]);
    // What is not on the machine at all, or has had nothing to do, is lacking nothing.
    let lacks = |row: &&Sample| row.label("state") != "ok" && !["absent", "no_answers"].contains(&row.label("reason"));
    let lacking = rows.filter(|row| row.value == 1.0 && lacks(row));
    lacking.map(|row| row.label("feature").to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::is_broken;

    #[test]
    fn a_machine_that_broke_is_told_from_a_script_that_failed() {
        assert!(is_broken("SeaBIOS\n[ 3.3] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n"));
        assert!(is_broken("SeaBIOS\n[ 3.3] Kernel panic - not syncing\n"));
        assert!(is_broken("begins\n[ 9.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n"));
        assert!(!is_broken("begins\nstatus 1\n"));
        assert!(!is_broken("begins\n[ 9.1] BUG: kernel NULL pointer dereference\n"));
    }
}
