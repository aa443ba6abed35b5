//! A PostgreSQL server with a cluster of its own, as nobody: it refuses root.
use rustix::process::Signal;
use std::{fs, os::unix::fs::chown, path::Path};
use tarsier_integration::{NOBODY, Place, Postgres, Running, Service, free_port};

pub(crate) fn serve(programs: &Postgres) -> Service {
    let mut service = Service::new();
    let (port, listen) = (service.port.to_string(), service.ips().join(","));
    let data = service.folder().join("data").display().to_string();
    chown(service.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    let initdb = programs.path("initdb");
    let words = [&initdb, "-D", &data, "-U", "tester", "-A", "trust", "--no-sync"];
    let made = service.command(Some(NOBODY), &words).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(Path::new(&data).join("pg_hba.conf"), "host all all all trust\n").unwrap();
    let (postgres, listen) = (programs.path("postgres"), format!("listen_addresses={listen}"));
    let mut words = vec![postgres.as_str(), "-D", &data, "-p", &port];
    for setting in ["fsync=off", "log_min_messages=log", &listen, "unix_socket_directories="] {
        words.extend(["-c", setting]);
    }
    let command = service.command(Some(NOBODY), &words);
    service.start(command, "database system is ready to accept connections", Signal::INT);
    let mut init = Place::new().command(programs.path("pgbench"));
    init.args(["-h", "127.0.0.1", "-p", &port, "-U", "tester", "-i", "-q", "postgres"]);
    let made = init.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    service
}

/// Something else in the server's container, which begins as PostgreSQL does. Its port, and the process.
pub(crate) fn changeling(service: &Service, ip: &str) -> (u16, Running) {
    let port = free_port();
    let script = crate::table::script("speak.py");
    let place = Place::new().cgroup(&service.group);
    let running = place.program(&script).start(&[ip, &port.to_string(), "serve", "0"]);
    (port, running)
}
