//! A Memcached server, as nobody: it refuses root.
use rustix::process::Signal;
use tarsier_integration::{Place, Running, Service, free_port};

const NOBODY: u32 = 65_534;

pub(crate) fn serve() -> Service {
    let mut service = Service::new();
    let port = service.port.to_string();
    let listen: Vec<_> = service.doors().iter().map(|door| door.address.ip()).collect();
    let listen: Vec<_> = listen
        .into_iter()
        .map(|ip| {
            if ip.is_ipv6() {
                format!("[{ip}]")
            } else {
                ip.to_string()
            }
        })
        .collect();
    // An item may be larger than a mebibyte.
    let mut words = vec!["memcached", "-p", &port, "-U", "0", "-m", "256", "-I", "4m", "-vv"];
    for listen in &listen {
        words.extend(["-l", listen]);
    }
    let command = service.command(Some(NOBODY), &words);
    service.start(command, "server listening", Signal::TERM);
    service
}

/// Something else in the server's container, which begins as a Memcached server does. Its port, and the process.
pub(crate) fn changeling(service: &Service, ip: &str) -> (u16, Running) {
    let port = free_port();
    let script = crate::table::script("talk.py");
    let place = Place::new().cgroup(&service.group);
    let running = place.program(&script).start(&[ip, &port.to_string(), "serve", "0"]);
    (port, running)
}
