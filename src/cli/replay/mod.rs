//! `tarsier replay FILE`: does again what a recording holds, without a kernel, and prints the metrics it ends with.
use crate::cli::{CliError, ReplayArgs};
use crate::{
    base::{ids::SocketId, now::Now},
    decode::Event,
    fqdn::table::Names,
    metrics::{
        families::{self, NodeLabels},
        text,
    },
    recording::{Frame, Preamble, Reader, RecordingError},
    registry::{filters::Filters, state::RegistryState},
    run,
    tracer::batch::decode_batch,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

pub fn run(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let failed = |source| RecordingError::Io {
        path: args.file.display().to_string(),
        op: "cannot open",
        source,
    };
    let file = File::open(&args.file).map_err(failed)?;
    let text = replay(BufReader::new(file))?;
    out.write_all(&text).map_err(CliError::Output)?;
    Ok(())
}

/// The metrics of the containers, and names of addresses, at the end of the recording.
pub fn replay(recording: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut frames = Reader::new(recording)?;
    let Some(Frame::Preamble(preamble)) = frames.next_frame()? else {
        return Err(RecordingError::NotARecording.into());
    };
    let mut registry = registry(&preamble)?;
    let mut last = Now::default();
    let mut routes = HashMap::new();
    let mut names = Names::new(preamble.config.fqdn.max_entries);
    while let Some(frame) = frames.next_frame()? {
        // The effects are what an agent would do; all states stay with the registry here.
        match frame {
            Frame::Preamble(_) => return Err(RecordingError::NotARecording.into()),
            Frame::Batch(now, raw) => {
                let (mut events, _, _) = decode_batch(&raw);
                follow(&mut events, &std::mem::take(&mut routes));
                names.name(&mut events, now.monotonic_ns);
                registry.apply(events, now);
                last = now;
            }
            Frame::Routes(of) => routes = of.into_iter().collect(),
            Frame::DnsAnswered(now, answer) => {
                names.learn(&answer, now.monotonic_ns);
            }
            Frame::Said(now, events) => {
                registry.apply(events.into_iter().filter(Event::is_said), now);
            }
            Frame::NamesForgotten(addresses) => {
                names.forget(&addresses, u64::MAX);
            }
            Frame::Answer(now, answer) => {
                registry.answer(answer, now);
            }
            Frame::Inventory(now, inventory) => {
                registry.inventory(&inventory, now);
            }
            Frame::Filters(now, filters) => {
                registry.set_filters(Arc::new(Filters::new(&filters)), now);
            }
            Frame::Sweep(now, before_ns) => {
                registry.sweep(before_ns, now);
            }
            Frame::Tick(now) => {
                registry.tick(now);
                last = now;
            }
            Frame::Garbage(now) => {
                registry.collect_garbage(now);
            }
            Frame::End(now) => last = now,
        }
    }
    let node = NodeLabels {
        machine_id: preamble.machine_id.clone(),
        system_uuid: preamble.system_uuid.clone(),
        ..NodeLabels::default()
    };
    let mut families = families::containers(&registry.samples(last), &node, &preamble.config.metrics.labels);
    families.extend(families::names(&names.specified(), &node));
    Ok(text::encode(families).into_bytes())
}

/// As the conntrack cache did.
fn follow(events: &mut [Event], routes: &HashMap<SocketId, SocketAddr>) {
    for event in events {
        if let Event::SocketSeen(event) | Event::ConnectionClosed(event) | Event::SocketSpilled(event) = event {
            event.actual = routes.get(&event.socket).copied();
        }
    }
}

fn registry(preamble: &Preamble) -> anyhow::Result<RegistryState> {
    let mut settings = run::registry_settings(&preamble.config)?;
    settings.actors = false;
    settings.runtimes = preamble.runtimes;
    Ok(RegistryState::new(settings, preamble.node.clone()))
}

#[cfg(test)]
mod tests;
