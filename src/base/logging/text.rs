use crate::base::clock::Clock;
use humantime_serde::re::humantime;
use slog::{FnValue, Level, PushFnValue, Record, o};
use slog_json::Json;
use slog_term::{Decorator, FullFormat, TermDecorator};
use std::{
    env,
    io::{self, Write},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// For people; coloured only where stderr is a terminal that can, and `NO_COLOR` is not set.
pub(super) fn term(clock: Arc<dyn Clock>) -> FullFormat<TermDecorator> {
    let decorator = TermDecorator::new().stderr();
    let decorator = if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        decorator.force_plain()
    } else {
        decorator
    };
    format(decorator.build(), clock)
}

fn format<D: Decorator>(decorator: D, clock: Arc<dyn Clock>) -> FullFormat<D> {
    FullFormat::new(decorator)
        .use_custom_timestamp(move |out: &mut dyn Write| write!(out, "{}", timestamp(&clock)))
        .use_original_order()
        .build()
}

/// For machines: one object per line, written whole.
pub(super) fn json<W: Write>(out: W, clock: Arc<dyn Clock>) -> Json<WholeRecords<W>> {
    let out = WholeRecords {
        out,
        record: Vec::new(),
    };
    Json::new(out)
        .set_flush(true)
        .add_key_value(o!("ts" => FnValue(move |_: &Record<'_>| timestamp(&clock).to_string())))
        .add_key_value(o!("level" => FnValue(|record: &Record<'_>| level_name(record.level()))))
        .add_key_value(o!("msg" => PushFnValue(|record: &Record<'_>, value| value.emit(record.msg()))))
        .build()
}

fn timestamp(clock: &Arc<dyn Clock>) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(clock.wall_ns()))
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Collects the pieces of a record until its flush, so that it goes out in one write, or is given up as a whole.
pub(super) struct WholeRecords<W> {
    out: W,
    record: Vec<u8>,
}

impl<W: Write> Write for WholeRecords<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.record).and_then(|()| self.out.flush());
        self.record.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use slog::{Drain, Logger, info};
    use slog_term::PlainSyncDecorator;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<String>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut writes = self.0.lock().unwrap();
            writes.push(String::from_utf8(bytes.to_vec()).unwrap());
            if writes.len() == 2 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_write_and_a_failed_one_leaves_nothing_behind() {
        let writes = Writes::default();
        let drain = Mutex::new(json(writes.clone(), Arc::new(ManualClock::default())));
        let log = Logger::root(drain.ignore_res(), o!());
        for number in 1..=3 {
            info!(log, "started"; "number" => number);
        }
        let writes = writes.0.lock().unwrap();
        let numbers: Vec<_> = writes
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].clone())
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn the_terminal_format_reads_from_left_to_right() {
        let writes = Writes::default();
        let clock = Arc::new(ManualClock::new(0, 0, 1_735_787_045_678_000_000));
        let drain = format(PlainSyncDecorator::new(writes.clone()), clock);
        let log = Logger::root(drain.ignore_res(), o!("component" => "tracer"));
        info!(log, "started"; "pid" => 7, "cgroup" => "/a");
        let text = writes.0.lock().unwrap().concat();
        assert_eq!(
            text,
            "2025-01-02T03:04:05.678Z INFO started, component: tracer, pid: 7, cgroup: /a\n"
        );
    }
}
