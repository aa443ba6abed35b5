//! Processes that come about, change and end in every way there is, for the tests to watch.
//!
//! ```text
//! thread-exec PROGRAM ARG...          another thread than the first executes it
//! clone-into FOLDER PROGRAM ARG...    a child that begins in that cgroup executes it
//! vfork N                             N children that borrow the memory: they end at once, or execute /bin/true
//! headless ADDRESS N                  the first thread ends; another connects N times and goes on
//! twice ADDRESS FOLDER N FOLDER M     two children with one pid, each in its own cgroup, connect N and M times
//! eat MIB [threads|headless|shared]   uses up memory: by four threads, without a first thread, or beside a process that
//!                                     has the same memory
//! ```
//! `headless` prints `ready` and ends when its standard input does.
#![expect(
    unsafe_code,
    reason = "what is tried here are system calls that no safe function makes"
)]
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    net::TcpStream,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::Command,
    ptr, thread,
    time::Duration,
};
use tarsier_integration::Stopwatch;

/// libc's own is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["thread-exec", program, ref arguments @ ..] => thread_exec(program, arguments),
        ["clone-into", folder, program, ref arguments @ ..] => clone_into(folder, program, arguments),
        ["vfork", count] => vfork(count.parse()?),
        ["headless", address, count] => headless(address, count.parse()?),
        ["twice", address, one, n, two, m] => twice(address, [(one, n.parse()?), (two, m.parse()?)]),
        ["eat", mib, ref how @ ..] => eat(mib.parse()?, how.first().copied()),
        _ => bail!("no such verb: {words:?}"),
    }
}

fn thread_exec(program: &str, arguments: &[&str]) -> Result<()> {
    let error = thread::scope(|scope| {
        let other = scope.spawn(|| Command::new(program).args(arguments).exec());
        other.join().expect("it executes something else")
    });
    Err(error).with_context(|| format!("executing {program}"))
}

/// A child of this process, which has one thread: there it returns 0.
fn clone3(cgroup: &File, pid: Option<i32>) -> Result<i32> {
    let pids = [pid.unwrap_or(0)];
    let mut how = libc::clone_args {
        flags: CLONE_INTO_CGROUP,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: if pid.is_some() { pids.as_ptr() as u64 } else { 0 },
        set_tid_size: u64::from(pid.is_some()),
        cgroup: cgroup.as_raw_fd() as u64,
    };
    // SAFETY: no memory is shared and no thread is left behind: like fork.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how)) };
    ensure!(child >= 0, "clone3: {}", io::Error::last_os_error());
    Ok(i32::try_from(child)?)
}

/// Its exit code.
fn wait_for(child: i32) -> Result<i32> {
    let mut status = 0;
    // SAFETY: the status is ours.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(waited == child, "waitpid: {}", io::Error::last_os_error());
    ensure!(libc::WIFEXITED(status), "the child was killed: {status:#x}");
    Ok(libc::WEXITSTATUS(status))
}

fn clone_into(folder: &str, program: &str, arguments: &[&str]) -> Result<()> {
    let child = clone3(&File::open(folder).context(folder.to_owned())?, None)?;
    if child == 0 {
        let error = Command::new(program).args(arguments).exec();
        return Err(error).with_context(|| format!("executing {program}"));
    }
    std::process::exit(wait_for(child)?);
}

fn vfork(count: usize) -> Result<()> {
    extern "C" fn ends(_: *mut libc::c_void) -> libc::c_int {
        0
    }
    extern "C" fn executes(_: *mut libc::c_void) -> libc::c_int {
        let path = c"/bin/true".as_ptr();
        let arguments = [path, ptr::null()];
        // SAFETY: both arrays end as they must; nothing else of the parent's is touched.
        unsafe { libc::execv(path, arguments.as_ptr()) };
        1
    }
    let mut stack = vec![0_u8; 1 << 16];
    for i in 0..count {
        let run = if i % 2 == 0 { ends } else { executes };
        let top = stack.as_mut_ptr_range().end;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the parent waits until the child no longer uses the stack.
        let child = unsafe { libc::clone(run, top.cast(), flags, ptr::null_mut()) };
        ensure!(child > 0, "clone: {}", io::Error::last_os_error());
        ensure!(wait_for(child)? == 0, "a child failed");
    }
    Ok(writeln!(io::stdout(), "{}", json!({ "started": count }))?)
}

/// Ends the calling thread, which is the first, and lets `then` go on in another.
fn without_first_thread(then: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    thread::spawn(move || {
        let first_is_dead = || fs::read_to_string("/proc/self/stat").is_ok_and(|stat| stat.contains(") Z "));
        while !first_is_dead() {
            thread::yield_now();
        }
        match then() {
            Ok(()) => std::process::exit(0),
            Err(error) => {
                writeln!(io::stderr(), "{error:#}").ok();
                std::process::exit(1)
            }
        }
    });
    // SAFETY: nothing on this thread's stack is used by the other.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    bail!("the first thread did not end")
}

fn headless(address: &str, count: usize) -> Result<()> {
    let address = address.to_owned();
    without_first_thread(move || {
        connect(&address, count)?;
        let mut stdout = io::stdout();
        writeln!(stdout, "ready")?;
        stdout.flush()?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
        Ok(writeln!(stdout, "{}", json!({ "connected": count }))?)
    })
}

fn connect(address: &str, count: usize) -> Result<()> {
    for _ in 0..count {
        drop(TcpStream::connect(address).context("connecting")?);
    }
    Ok(())
}

fn twice(address: &str, children: [(&str, usize); 2]) -> Result<()> {
    // SAFETY: one thread, and the child does nothing but end.
    let free = unsafe { libc::fork() };
    if free == 0 {
        // SAFETY: ends without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    wait_for(free)?;
    let folders: Vec<File> = children
        .iter()
        .map(|(folder, _)| File::open(folder))
        .collect::<io::Result<_>>()?;
    let begun = Stopwatch::start();
    let mut gap = Duration::ZERO;
    for ((_, count), folder) in children.iter().zip(&folders) {
        gap = begun.elapsed();
        let child = clone3(folder, Some(free))?;
        if child == 0 {
            let code = i32::from(connect(address, *count).is_err());
            // SAFETY: ends without running anything of the parent's.
            unsafe { libc::_exit(code) };
        }
        ensure!(child == free, "it has another pid");
        ensure!(wait_for(child)? == 0, "a child could not connect");
    }
    Ok(writeln!(
        io::stdout(),
        "{}",
        json!({ "pid": free, "gap_us": gap.as_micros() as u64 })
    )?)
}

fn eat(mib: usize, how: Option<&str>) -> Result<()> {
    extern "C" fn sleeps(_: *mut libc::c_void) -> libc::c_int {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    match how {
        None => consume(mib),
        Some("threads") => thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| consume(mib));
            }
        }),
        Some("headless") => {
            return without_first_thread(move || {
                consume(mib);
                Ok(())
            });
        }
        Some("shared") => {
            let stack = Vec::leak(vec![0_u8; 1 << 16]);
            // SAFETY: the child has its own stack, which is never given back, and uses nothing else.
            let child = unsafe {
                let top = stack.as_mut_ptr_range().end;
                libc::clone(sleeps, top.cast(), libc::CLONE_VM | libc::SIGCHLD, ptr::null_mut())
            };
            ensure!(child > 0, "clone: {}", io::Error::last_os_error());
            consume(mib);
        }
        Some(other) => bail!("no such way to eat: {other:?}"),
    }
    Ok(())
}

/// Uses every page, a MiB at a time.
fn consume(mib: usize) {
    let mut eaten = Vec::new();
    for _ in 0..mib {
        eaten.push(vec![1_u8; 1 << 20]);
    }
    std::hint::black_box(&eaten);
}
