//! A Redis server.
use rustix::process::Signal;
use tarsier_integration::{Place, Running, Service, free_port};

pub(crate) fn serve() -> Service {
    let mut service = Service::new();
    let (port, ips) = (service.port.to_string(), service.ips());
    let folder = service.folder().display().to_string();
    let mut words = vec!["redis-server", "--port", &port, "--protected-mode", "no", "--save", ""];
    words.extend(["--dir", &folder, "--bind"]);
    words.extend(ips.iter().map(String::as_str));
    let command = service.command(None, &words);
    service.start(command, "Ready to accept connections", Signal::TERM);
    service
}

/// Something else in the server's container, which begins as a Redis server does. Its port, and the process.
pub(crate) fn changeling(service: &Service, ip: &str) -> (u16, Running) {
    let port = free_port();
    let script = crate::table::script("talk.py");
    let place = Place::new().cgroup(&service.group);
    let running = place.program(&script).start(&[ip, &port.to_string(), "serve", "0"]);
    (port, running)
}
