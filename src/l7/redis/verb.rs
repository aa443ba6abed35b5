//! What a command is, as far as its answer is another one for it.
use crate::l7::dialogue::Asked;

/// Of a command's name and first arguments. Longer ones are none of those that matter.
const WORD_LEN: usize = 32;
/// Arguments that `Asked` shows.
const MAX_SHOWN: u64 = 8;

/// One that may come in pieces.
#[derive(Clone, Copy, Default)]
pub(super) struct Word {
    bytes: [u8; WORD_LEN],
    len: usize,
}

impl Word {
    pub(super) fn extend(&mut self, more: &[u8]) {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(more) {
            *to = *from;
        }
        self.len = self.len.saturating_add(more.len());
    }

    /// As good as too long.
    pub(super) fn spoil(&mut self) {
        self.len = usize::MAX;
    }

    pub(super) fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// How a command begins. A word that is too long, or not there, is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words<'a> {
    pub(super) name: &'a [u8],
    pub(super) second: &'a [u8],
    pub(super) third: &'a [u8],
    /// All of them.
    pub(super) count: u64,
}

impl<'a> Words<'a> {
    pub(super) fn set(&mut self, at: u64, word: &'a [u8]) {
        let place = match at {
            0 => &mut self.name,
            1 => &mut self.second,
            2 => &mut self.third,
            _ => return,
        };
        *place = if word.len() <= WORD_LEN { word } else { &[] };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Channel,
    Pattern,
    Shard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topic: Topic,
    pub(super) leaves: bool,
}

impl Subscription {
    /// The command's name is that of its answer.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let (topic, leaves) = match name.len() {
            9 if name.eq_ignore_ascii_case(b"subscribe") => (Topic::Channel, false),
            10 if name.eq_ignore_ascii_case(b"psubscribe") => (Topic::Pattern, false),
            10 if name.eq_ignore_ascii_case(b"ssubscribe") => (Topic::Shard, false),
            11 if name.eq_ignore_ascii_case(b"unsubscribe") => (Topic::Channel, true),
            12 if name.eq_ignore_ascii_case(b"punsubscribe") => (Topic::Pattern, true),
            12 if name.eq_ignore_ascii_case(b"sunsubscribe") => (Topic::Shard, true),
            _ => return None,
        };
        Some(Self { topic, leaves })
    }
}

/// What it takes to answer a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Plain,
    /// The kernel has counted it, and has not said what it is.
    Unknown,
    /// Once per channel. `None`: of all there are.
    Subscription(Subscription, Option<u64>),
    Monitor,
    Reset,
    /// What follows is a replica's.
    Sync,
}

/// What a command does to the server's voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    On,
    Off,
    Skip,
}

impl Kind {
    /// Most names are none of these, and their length tells.
    pub(super) fn of(words: &Words<'_>) -> Self {
        let name = words.name;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"sync") => Self::Sync,
            5 if name.eq_ignore_ascii_case(b"psync") => Self::Sync,
            5 if name.eq_ignore_ascii_case(b"reset") => Self::Reset,
            7 if name.eq_ignore_ascii_case(b"monitor") => Self::Monitor,
            9..=12 => Subscription::of(name).map_or(Self::Plain, |subscription| {
                let channels = words.count.saturating_sub(1);
                Self::Subscription(subscription, (channels > 0).then_some(channels))
            }),
            _ => Self::Plain,
        }
    }
}

impl Voice {
    pub(super) fn of(words: &Words<'_>) -> Option<Self> {
        let is_voice = words.name.len() == 6
            && words.count == 3
            && words.name.eq_ignore_ascii_case(b"client")
            && words.second.eq_ignore_ascii_case(b"reply");
        if !is_voice {
            return None;
        }
        [("on", Self::On), ("off", Self::Off), ("skip", Self::Skip)]
            .into_iter()
            .find_map(|(word, voice)| words.third.eq_ignore_ascii_case(word.as_bytes()).then_some(voice))
    }
}

/// Commands whose first argument says what they do.
const WITH_SECOND: [&str; 17] = [
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT",
    "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO",
];

pub(super) fn has_second(name: &[u8]) -> bool {
    // None of the commands that come by the million.
    name.len() > 2
        && WITH_SECOND
            .iter()
            .any(|with| name.eq_ignore_ascii_case(with.as_bytes()))
}

/// A name that could be one, in capitals.
fn shown(word: &[u8]) -> Option<String> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-|".contains(byte);
    let fits = word.first().is_some_and(u8::is_ascii_alphabetic) && word.iter().all(is_name);
    fits.then(|| word.iter().map(|byte| char::from(byte.to_ascii_uppercase())).collect())
}

pub(super) fn asked(words: &Words<'_>, wants_text: bool) -> Asked {
    let mut verb = shown(words.name).unwrap_or_else(|| "?".to_owned());
    let mut arguments = words.count.saturating_sub(1);
    let is_word = |word: &&[u8]| word.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
    if has_second(words.name)
        && let Some(second) = Some(words.second).filter(is_word).and_then(shown)
    {
        verb = format!("{verb} {second}");
        arguments -= 1;
    }
    if !wants_text {
        return Asked {
            verb: verb.into(),
            ..Asked::default()
        };
    }
    let mut text = verb.clone();
    for _ in 0..arguments.min(MAX_SHOWN) {
        text.push_str(" ?");
    }
    if arguments > MAX_SHOWN {
        text.push_str(" ...");
    }
    Asked {
        verb: verb.into(),
        text: text.into(),
    }
}
