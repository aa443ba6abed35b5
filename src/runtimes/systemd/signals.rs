//! What systemd and the bus announce.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use super::{BUS, Change, MANAGER, PROPERTIES, SYSTEMD, UNIT};
use std::{collections::HashMap, sync::Arc};
use zbus::{Message, ObjectPath, Variant, message::Type};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Change(Change),
    /// systemd has left the bus: what comes after it is another connection.
    ManagerLeft,
}

/// What the bus is asked to send.
pub(super) fn rules() -> [String; 3] {
    [
        format!("type='signal',sender='{SYSTEMD}',interface='{MANAGER}'"),
        format!("type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{UNIT}'"),
        format!("type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'"),
    ]
}

/// `manager` is systemd's own name on the bus: whoever may send to the bus may send to us.
pub(super) fn read(message: &Message, manager: &str) -> Option<News> {
    if message.message_type() != Type::Signal {
        return None;
    }
    let header = message.header();
    let (interface, member) = (header.interface()?.as_str(), header.member()?.as_str());
    let sender = header.sender()?.as_str();
    let body = message.body();
    if sender == BUS && (interface, member) == (BUS, "NameOwnerChanged") {
        let (name, ..) = body.deserialize::<(&str, &str, &str)>().ok()?;
        return (name == SYSTEMD).then_some(News::ManagerLeft);
    }
    if sender != manager {
        return None;
    }
    let change = match (interface, member) {
        (MANAGER, "UnitNew") => Change::Changed(unit(body.deserialize::<(&str, ObjectPath<'_>)>().ok()?.0)?),
        (MANAGER, "UnitRemoved") => Change::Gone(unit(body.deserialize::<(&str, ObjectPath<'_>)>().ok()?.0)?),
        (PROPERTIES, "PropertiesChanged") => {
            let unit = unit(&unescape(header.path()?.as_str().strip_prefix(UNIT_PATH)?)?)?;
            type Body<'a> = (&'a str, HashMap<&'a str, Variant<'a>>, Vec<&'a str>);
            let (interface, values, _) = body.deserialize::<Body<'_>>().ok()?;
            if interface != UNIT {
                return None;
            }
            match values.get("ActiveState")?.downcast_ref::<&str>().ok()? {
                "inactive" | "failed" => Change::Gone(unit),
                "activating" | "active" => Change::Changed(unit),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(News::Change(change))
}

/// Of the units that come and go, only those that have processes and are asked for.
fn unit(name: &str) -> Option<Arc<str>> {
    const KINDS: [&str; 5] = ["service", "slice", "socket", "mount", "swap"];
    let (_, kind) = name.rsplit_once('.')?;
    (is_unit_name(name) && KINDS.contains(&kind)).then(|| name.into())
}

pub(super) fn is_unit_name(name: &str) -> bool {
    const MAX_BYTES: usize = 255;
    let printable = |b: u8| b.is_ascii_graphic() && b != b'/';
    name.len() <= MAX_BYTES && name.contains('.') && name.bytes().all(printable)
}

const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/";

/// `_2d` stands for `-`.
fn unescape(label: &str) -> Option<String> {
    let mut parts = label.split('_');
    let mut name = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        name.push(u8::from_str_radix(hex, 16).ok()?);
        name.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serialize;
    use zbus::{DynamicType, OwnedObjectPath};

    const MINE: &str = ":1.7";
    const PATH: &str = "/org/freedesktop/systemd1";

    fn signal<B: Serialize + DynamicType>(
        sender: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Message {
        let signal = Message::signal(path, interface, member);
        signal.sender(sender).build(body).unwrap()
    }

    fn unit_signal(sender: &str, member: &str, name: &str) -> Message {
        let path = OwnedObjectPath::try_from("/org/freedesktop/systemd1/unit/a").unwrap();
        signal(sender, PATH, MANAGER, member, &(name, path))
    }

    fn state(sender: &str, label: &str, interface: &str, key: &str, value: Variant<'_>) -> Message {
        let path = format!("{UNIT_PATH}{label}");
        let values = HashMap::from([(key, value)]);
        signal(
            sender,
            &path,
            PROPERTIES,
            "PropertiesChanged",
            &(interface, values, vec!["A"]),
        )
    }

    fn changed(name: &str) -> Option<News> {
        Some(News::Change(Change::Changed(name.into())))
    }

    fn gone(name: &str) -> Option<News> {
        Some(News::Change(Change::Gone(name.into())))
    }

    #[test]
    fn units_come_and_go() {
        let mine = |message| read(&message, MINE);
        assert_eq!(mine(unit_signal(MINE, "UnitNew", "a.service")), changed("a.service"));
        assert_eq!(mine(unit_signal(MINE, "UnitRemoved", "a.slice")), gone("a.slice"));
        for name in ["dev-sda.device", "a.timer", "a", "", "a/b.service", "a\nb.service"] {
            assert_eq!(mine(unit_signal(MINE, "UnitNew", name)), None, "{name:?}");
        }
        let long = "a".repeat(250) + ".service";
        assert_eq!(mine(unit_signal(MINE, "UnitNew", &long)), None);
        assert_eq!(mine(unit_signal(MINE, "JobNew", "a.service")), None);
        assert_eq!(mine(signal(MINE, PATH, MANAGER, "UnitNew", &7u32)), None);
    }

    #[test]
    fn units_start_and_stop() {
        let active = |value| read(&state(MINE, "a_2db_40c_2eservice", UNIT, "ActiveState", value), MINE);
        let name = "a-b@c.service";
        for (state, expected) in [
            ("active", changed(name)),
            ("activating", changed(name)),
            ("inactive", gone(name)),
            ("failed", gone(name)),
            ("deactivating", None),
        ] {
            assert_eq!(active(state.into()), expected, "{state}");
        }
        assert_eq!(active(7u32.into()), None);
        let other = |label, interface, key| read(&state(MINE, label, interface, key, "active".into()), MINE);
        assert_eq!(other("a_2eservice", UNIT, "ActiveState"), changed("a.service"));
        assert_eq!(other("a_2eservice", MANAGER, "ActiveState"), None);
        assert_eq!(other("a_2eservice", UNIT, "SubState"), None);
        assert_eq!(other("a_2", UNIT, "ActiveState"), None);
        assert_eq!(other("a_zz", UNIT, "ActiveState"), None);
        assert_eq!(other("_ff_2eservice", UNIT, "ActiveState"), None);
    }

    #[test]
    fn nobody_speaks_for_systemd() {
        let forged = unit_signal(":1.8", "UnitRemoved", "a.service");
        assert_eq!(read(&forged, MINE), None);

        let left = |sender, name| {
            let message = signal(
                sender,
                "/org/freedesktop/DBus",
                BUS,
                "NameOwnerChanged",
                &(name, MINE, ""),
            );
            read(&message, MINE)
        };
        assert_eq!(left(BUS, SYSTEMD), Some(News::ManagerLeft));
        assert_eq!(left(BUS, "org.example"), None);
        assert_eq!(left(":1.8", SYSTEMD), None);
    }

    proptest! {
        #[test]
        fn unescaping_is_total_and_inverts(name in "[a-z0-9@.:-]{1,20}", any in "\\PC{0,20}") {
            let escape = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("_{b:02x}") };
            let label: String = name.bytes().map(escape).collect();
            prop_assert_eq!(unescape(&label), Some(name));
            let _ = unescape(&any);
        }
    }
}
