//! Builds the eBPF programs from source with a cargo of its own and puts the object where
//! `src/tracer/object.rs` embeds it.
//!
//! They need a rustc with the sources of `core`: a rustup nightly, or the distribution's `/usr/bin/rustc`. Where there is
//! neither, an empty file stands in, so that whatever needs no kernel still builds. `TARSIER_BPF` may say otherwise:
//! `require` makes that an error, `lint` runs clippy over the programs too, `skip` leaves them out on purpose.
//! `TARSIER_BPF_RUSTC` names the compiler.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

const PROGRAMS: &str = "tarsier-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";
const TOOLCHAIN: &str = include_str!("bpf-programs/toolchain.env");

/// Settings of the user's cargo that the nested one needs too; every other `CARGO_*` speaks of the outer build.
const KEPT: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
];
const REMOVED: [&str; 7] = [
    "CARGO",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "LD_LIBRARY_PATH",
];

fn main() -> Result<()> {
    println!("cargo:rustc-check-cfg=cfg(tarsier_no_bpf)");
    for name in ["TARSIER_BPF", "TARSIER_BPF_RUSTC"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let named = env::var_os("TARSIER_BPF_RUSTC")
        .filter(|rustc| !rustc.is_empty())
        .map(PathBuf::from);
    let wish = env::var("TARSIER_BPF").unwrap_or_default();
    let (found, required) = match wish.as_str() {
        "skip" => (Err("TARSIER_BPF=skip".to_owned()), false),
        "require" | "lint" => (find(named.as_deref()), true),
        "" => (find(named.as_deref()), named.is_some()),
        other => (
            Err(format!("TARSIER_BPF={other} is none of `require`, `lint`, `skip`")),
            true,
        ),
    };
    let object = out_dir.join(PROGRAMS);
    match found {
        Ok(tools) => return tools.build(&out_dir, &object, wish == "lint"),
        // cargo prints this as one line and fails; an error returned from here would bury it in the script's output.
        Err(reason) if required => println!("cargo::error=cannot build the eBPF programs: {reason}"),
        Err(reason) => println!("cargo:warning=built without eBPF programs: {reason}"),
    }
    println!("cargo:rustc-cfg=tarsier_no_bpf");
    fs::write(&object, []).with_context(|| format!("cannot write {}", object.display()))
}

struct Tools {
    compiler: Compiler,
    linker: PathBuf,
}

struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
    /// bpf-linker as cargo installs it loads LLVM when it runs, and must get the one of this compiler.
    llvm: Option<PathBuf>,
}

/// What builds the programs, or why there is nothing that does.
fn find(named: Option<&Path>) -> Result<Tools, String> {
    let mut reasons = Vec::new();
    let linker = find_linker();
    if linker.is_none() {
        reasons.push("bpf-linker is not installed".to_owned());
    }
    let mut usable = |rustc: &Path| {
        watch(rustc);
        let checked = inspect(rustc).and_then(|compiler| {
            if named.is_some() {
                Ok(compiler)
            } else {
                check_llvm(compiler)
            }
        });
        checked.map_err(|reason| reasons.push(reason)).ok()
    };
    let compiler = match named {
        Some(rustc) => usable(rustc),
        None => candidates().iter().find_map(|rustc| usable(rustc)),
    };
    let tools = compiler
        .zip(linker)
        .map(|(compiler, linker)| Tools { compiler, linker });
    tools.ok_or_else(|| {
        // What installs any of them changes this folder, and so runs this script again.
        watch(Path::new("/usr/bin"));
        if reasons.is_empty() {
            reasons.push("there is no rustc with the sources of core".to_owned());
        }
        format!("{}. `make setup` installs what is missing", reasons.join("; "))
    })
}

/// Nightlies of rustup (never its stable: that one would need RUSTC_BOOTSTRAP for nothing), then the distribution's.
fn candidates() -> Vec<PathBuf> {
    let rustup_home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".rustup")));
    if let Some(home) = rustup_home {
        watch(&home.join("update-hashes"));
    }
    let mut found: Vec<PathBuf> = [setting("NIGHTLY"), "nightly"]
        .into_iter()
        .filter_map(rustup_which)
        .collect();
    found.extend(Some(PathBuf::from(DISTRIBUTION_RUSTC)).filter(|rustc| rustc.exists()));
    found
}

fn rustup_which(toolchain: &str) -> Option<PathBuf> {
    let path = output(
        Command::new("rustup")
            .args(["which", "--toolchain", toolchain, "rustc"])
            .env("RUSTUP_AUTO_INSTALL", "0")
            .env("RUST_BACKTRACE", "0"),
    );
    path.ok().map(|path| PathBuf::from(path.trim()))
}

fn inspect(rustc: &Path) -> Result<Compiler, String> {
    let print = |arguments: &[&str]| {
        let mut command = Command::new(rustc);
        clean(&mut command);
        output(command.args(arguments)).map_err(|error| format!("{}: {error:#}", rustc.display()))
    };
    let sysroot = PathBuf::from(print(&["--print", "sysroot"])?.trim());
    let lib = sysroot.join("lib/rustlib");
    if !lib.join("src/rust/library/core").is_dir() {
        watch(&lib.join("components"));
        return Err(format!("{} has no sources of core", rustc.display()));
    }
    // What stands in PATH may be rustup's proxy, which would choose another compiler in this directory.
    let real = |name: &str| Some(sysroot.join("bin").join(name)).filter(|path| path.exists());
    let rustc = real("rustc").unwrap_or_else(|| rustc.to_owned());
    let cargo = real("cargo")
        .or_else(|| env::var_os("CARGO").map(PathBuf::from))
        .unwrap_or_else(|| "cargo".into());
    let llvm = llvm_of(&rustc);
    Ok(Compiler { rustc, cargo, llvm })
}

fn llvm_of(rustc: &Path) -> Option<PathBuf> {
    let libraries = output(Command::new("ldd").arg(rustc)).ok()?;
    let line = libraries
        .lines()
        .find(|line| line.trim_start().starts_with("libLLVM"))?;
    line.split_whitespace().nth(2).map(PathBuf::from)
}

fn check_llvm(compiler: Compiler) -> Result<Compiler, String> {
    let rustc = compiler.rustc.display();
    let version = output(Command::new(&compiler.rustc).arg("-vV")).map_err(|error| format!("{rustc}: {error:#}"))?;
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .unwrap_or("of no version");
    if llvm.split('.').next() == Some(setting("LLVM")) {
        return Ok(compiler);
    }
    Err(format!(
        "{rustc} has LLVM {llvm}, bpf-linker {} needs {}",
        setting("BPF_LINKER"),
        setting("LLVM")
    ))
}

fn find_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")));
    let cargo_bin = cargo_home.map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let linker = env::split_paths(&path)
        .chain(cargo_bin.clone())
        .map(|dir| dir.join("bpf-linker"))
        .find(|linker| linker.is_file());
    if let Some(place) = linker.as_ref().or(cargo_bin.as_ref()) {
        watch(place);
    }
    linker
}

impl Tools {
    fn build(&self, out_dir: &Path, object: &Path, lint: bool) -> Result<()> {
        for source in ["bpf-programs", "Cargo.toml", "Cargo.lock"] {
            println!("cargo:rerun-if-changed={source}");
        }
        let target_dir = target_dir(out_dir);
        let Compiler { rustc, cargo, .. } = &self.compiler;
        if lint {
            // By its path: cargo would look for the subcommand among rustup's proxies first.
            let mut clippy = self.nested(&rustc.with_file_name("cargo-clippy"), "clippy", &target_dir, out_dir)?;
            run(clippy.args(["--no-deps", "--", "-Dwarnings"]).env("CARGO", cargo))?;
        }
        run(&mut self.nested(cargo, "build", &target_dir, out_dir)?)?;
        let built = target_dir.join(TARGET).join("release").join(PROGRAMS);
        fs::copy(&built, object).with_context(|| format!("cannot copy {}", built.display()))?;
        Ok(())
    }

    fn nested(&self, program: &Path, subcommand: &str, target_dir: &Path, out_dir: &Path) -> Result<Command> {
        let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
        ensure!(
            ["x86_64", "aarch64"].contains(&arch.as_str()),
            "there are no eBPF programs for {arch}"
        );
        let flags = [
            "-Cdebuginfo=2",
            "-Clink-arg=--btf",
            // Without it LLVM loads an unaligned word byte by byte, which doubles what the verifier walks through.
            "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
            &format!("--cfg=bpf_target_arch=\"{arch}\""),
        ];
        let mut cargo = Command::new(program);
        clean(&mut cargo);
        cargo.args([
            subcommand,
            "--locked",
            "--release",
            "--package",
            PROGRAMS,
            "--target",
            TARGET,
            "-Zbuild-std=core",
        ]);
        cargo.arg("--target-dir").arg(target_dir);
        cargo.env("RUSTC", &self.compiler.rustc).env("RUSTC_BOOTSTRAP", "1");
        // Empty, not absent: a wrapper named in the user's cargo configuration is for host code.
        cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        cargo.env("CARGO_PROFILE_RELEASE_STRIP", "none");
        if let Some(llvm) = &self.compiler.llvm {
            cargo.env("LD_LIBRARY_PATH", only(llvm, &out_dir.join("llvm"))?);
        }
        Ok(cargo)
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(status.success(), "the eBPF programs do not pass {}", program.display());
    Ok(())
}

/// One for all builds of a profile, whatever their features: most of it is `core` and procedural macros. Not the outer
/// target directory itself, whose lock the outer cargo holds until this script has ended.
fn target_dir(out_dir: &Path) -> PathBuf {
    let build = out_dir
        .ancestors()
        .find(|dir| dir.file_name() == Some(OsStr::new("build")));
    build.and_then(Path::parent).unwrap_or(out_dir).join("bpf")
}

/// A directory with nothing but `library` in it: bpf-linker opens whichever LLVM it meets first, and a distribution's
/// library directory holds several.
fn only(library: &Path, dir: &Path) -> Result<PathBuf> {
    let link = dir.join("libLLVM.so");
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(library, &link),
    }
    .with_context(|| format!("cannot link {}", link.display()))?;
    Ok(dir.to_owned())
}

/// Takes out of the environment what the outer cargo, rustup or a user's shell says about the outer build.
fn clean(command: &mut Command) {
    let stale = |name: &OsStr| {
        let name = name.to_string_lossy();
        REMOVED.contains(&name.as_ref())
            || ["RUSTC_", "CARGO_"].iter().any(|prefix| name.starts_with(prefix))
                && !KEPT.iter().any(|kept| name.starts_with(kept))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| stale(name)) {
        command.env_remove(name);
    }
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        program.display(),
        output.status
    );
    String::from_utf8(output.stdout).with_context(|| format!("{} prints no UTF-8", program.display()))
}

/// cargo takes a path that is not there for one that has just changed, and would run this script at every build.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

fn setting(key: &str) -> &'static str {
    let value = TOOLCHAIN
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.expect("bpf-programs/toolchain.env has every key that is asked for here")
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).with_context(|| format!("{name} is not set: this is for cargo to run"))
}
