//! Tables and numbers for people.
use std::fmt::Write as _;

#[derive(Clone, Copy)]
pub(super) enum Align {
    Left,
    Right,
}

/// Columns as wide as they must be, two spaces apart; no space at the end of a line.
pub(super) fn table<const N: usize>(columns: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let heads = columns.map(|(head, _)| head.to_owned());
    let lines: Vec<_> = [&heads].into_iter().chain(rows).collect();
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(*line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let start = text.len();
        for ((cell, width), (_, align)) in line.iter().zip(widths).zip(columns) {
            if text.len() > start {
                text += "  ";
            }
            let padded = match align {
                Align::Left => write!(text, "{cell:<width$}"),
                Align::Right => write!(text, "{cell:>width$}"),
            };
            padded.expect("a string takes everything");
        }
        text.truncate(text.trim_end_matches(' ').len().max(start));
        text.push('\n');
    }
    text
}

pub(super) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The two largest units that are not nothing: `12s`, `5m`, `3h12m`, `4d3h`.
pub(super) fn age(seconds: f64) -> String {
    // Clocks differ, and an age below zero is none.
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{:.0}µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1}ms", seconds * 1e3)
    } else {
        format!("{seconds:.2}s")
    }
}

/// Names come from whoever named a process or a unit, and must not steer the terminal they are shown on.
pub(super) fn printable(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() || turns_direction(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same object, without what a terminal would obey. JSON itself escapes only what is below the space.
pub(super) fn printable_json(json: &[u8]) -> String {
    let mut text = String::with_capacity(json.len());
    for c in String::from_utf8_lossy(json).chars() {
        // Beyond ASCII there is nothing but in strings.
        if matches!(c, '\u{7f}'..='\u{9f}') || turns_direction(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [
            ["ä".to_owned(), "1".to_owned(), String::new()],
            ["bcd".to_owned(), "1000".to_owned(), "x".to_owned()],
        ];
        let columns = [("A", Align::Left), ("NUM", Align::Right), ("LAST", Align::Left)];
        assert_eq!(table(columns, &rows), "A     NUM  LAST\nä       1\nbcd  1000  x\n");
        assert_eq!(table(columns, &[]), "A  NUM  LAST\n");
    }

    #[test]
    fn json_for_a_terminal_is_the_same_object() {
        let name = "a\u{1b}b\u{9b}31m\u{7f}c\u{202e}\u{2067}ä\n";
        let json = serde_json::to_string(&[name]).unwrap();
        let shown = printable_json(json.as_bytes());
        assert_eq!(shown, r#"["a\u001bb\u009b31m\u007fc\u202e\u2067ä\n"]"#);
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [name]);
    }

    #[test]
    fn ages() {
        let ages = [
            -5.0, 0.4, 59.9, 60.0, 3599.0, 3600.0, 11_520.0, 86_399.0, 86_400.0, 356_400.0,
        ];
        let expected = [
            "0s", "0s", "59s", "1m", "59m", "1h00m", "3h12m", "23h59m", "1d0h", "4d3h",
        ];
        assert_eq!(ages.map(age), expected);
    }

    #[test]
    fn sizes_and_times() {
        let sizes = [0, 1023, 1024, 1_600_000, 5 << 40, u64::MAX];
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 TiB", "16384.0 PiB"];
        assert_eq!(sizes.map(bytes), expected);
        assert_eq!(
            [0.0, 0.000_25, 0.0123, 2.0].map(seconds),
            ["0µs", "250µs", "12.3ms", "2.00s"]
        );
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(printable("/a/ü b"), "/a/ü b");
        assert_eq!(printable("a\x1b[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\n\\u{202e}c");
    }
}
