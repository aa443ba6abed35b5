//! Random talk, cut and mixed at random.
use super::{
    model::{Turn, modes, turn},
    *,
};
use proptest::{collection::vec, prelude::*};

/// What is said in which order: `true` the client's, each with its number of bytes.
type Cuts = Vec<(bool, usize)>;

fn cuts() -> impl Strategy<Value = Cuts> {
    let len = prop_oneof![3 => Just(1usize), 3 => 1..10usize, 3 => 1..200usize, 1 => 1..4000usize];
    vec((any::<bool>(), len), 1..40)
}

/// Both sides, and where which exchange begins.
#[derive(Default)]
struct Talk {
    client: Vec<u8>,
    server: Vec<u8>,
    /// Of each turn: how much of the server's words needs how much of the client's.
    needs: Vec<(usize, usize)>,
    exchanges: Vec<(usize, usize, Status)>,
    unheard: u64,
}

impl Talk {
    fn of(turns: &[Turn]) -> Self {
        let mut talk = Self::default();
        for turn in turns {
            let asked = talk.client.len();
            talk.client.extend(&turn.asked);
            talk.server.extend(&turn.before);
            match turn.status {
                Some(status) => talk.exchanges.push((asked, talk.server.len(), status)),
                None => talk.unheard += u64::from(!turn.asked.is_empty()),
            }
            talk.server.extend(&turn.reply);
            talk.server.extend(&turn.after);
            talk.needs.push((talk.server.len(), talk.client.len()));
        }
        talk
    }

    /// How much the server may say when the client has said so much.
    fn allowed(&self, client: usize) -> usize {
        let may = self.needs.iter().take_while(|(_, needs)| *needs <= client);
        may.last().map_or(0, |(server, _)| *server)
    }

    /// `(asked_ns, replied_ns, status)` as they should be, and as they are.
    fn hear(&self, cuts: &Cuts) -> (Line, Vec<(u64, u64, Status)>) {
        let mut line = Line::new();
        let (mut client, mut server) = (0, 0);
        let (mut asked, mut replied) = (Vec::new(), Vec::new());
        for (is_client, len) in cuts.iter().cycle() {
            if client == self.client.len() && server == self.server.len() {
                break;
            }
            let can_reply = self.allowed(client).max(server);
            let is_client = client < self.client.len() && (*is_client || can_reply == server);
            let (side, bytes, at, until, times) = if is_client {
                (Client, &self.client, &mut client, self.client.len(), &mut asked)
            } else {
                (Server, &self.server, &mut server, can_reply, &mut replied)
            };
            let end = until.min(*at + len);
            line.piece(side, &bytes[*at..end], true);
            times.resize(end, line.now_ns);
            *at = end;
        }
        let right = self
            .exchanges
            .iter()
            .map(|(at, reply, status)| (asked[*at], replied[*reply], *status));
        let right = right.collect();
        (line, right)
    }
}

fn told(line: &Line) -> Vec<(u64, u64, Status)> {
    let told = |of: &Exchange| (of.asked_ns, of.replied_ns, of.status);
    line.heard.exchanges.iter().map(told).collect()
}

proptest! {
    #[test]
    fn what_is_said_is_told(turns in vec(turn(), 1..20), cuts in cuts()) {
        let talk = Talk::of(&turns);
        let (mut line, right) = talk.hear(&cuts);
        prop_assert_eq!(told(&line), right);
        prop_assert!(!line.redis.expects_reply());
        line.end();
        prop_assert_eq!(line.unparsed(), vec![]);
    }

    #[test]
    fn modes_are_kept(turns in modes(), cuts in cuts()) {
        let talk = Talk::of(&turns);
        let (mut line, right) = talk.hear(&cuts);
        prop_assert_eq!(told(&line), right);
        line.end();
        let unparsed = line.heard.unparsed.remove(&UnparsedReason::Unsupported).unwrap_or(0);
        prop_assert_eq!(unparsed, talk.unheard);
        prop_assert_eq!(line.unparsed(), vec![]);
    }

    /// Of a client that waits for its replies, some bytes are missing.
    #[test]
    fn holes_heal(
        batches in vec(vec(turn(), 1..6), 1..8),
        cuts in vec((1..60usize, prop::bool::weighted(0.2)), 1..40),
    ) {
        let mut line = Line::new();
        let mut cuts = cuts.iter().cycle();
        let mut commands = 0;
        for batch in &batches {
            let talk = Talk::of(batch);
            commands += batch.len() as u64;
            for (side, bytes) in [(Client, &talk.client), (Server, &talk.server)] {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (len, missing) = cuts.next().unwrap();
                    let (piece, after) = rest.split_at(rest.len().min(*len));
                    rest = after;
                    if *missing {
                        line.miss(side, piece.len() as u64);
                    } else {
                        line.piece(side, piece, true);
                    }
                }
            }
        }
        prop_assert!(!line.redis.is_over(), "{:?}", line.unparsed());
        prop_assert!(line.heard.exchanges.len() as u64 <= commands);
        for _ in 0..3 {
            line.client(command(&["GET", "a"])).server("+OK\r\n");
        }
        prop_assert!(!line.redis.expects_reply());
        line.is_right().is_right();
        prop_assert!(line.heard.exchanges.len() as u64 <= commands + 7);
    }

    #[test]
    fn nonsense_does_no_harm(
        talk in vec((any::<bool>(), any::<bool>(), hostile(), prop_oneof![4 => Just(0u64), 1 => 1..50u64]), 0..40),
    ) {
        let mut line = Line::watched();
        for (is_client, starts, bytes, missing) in &talk {
            let side = if *is_client { Client } else { Server };
            line.piece(side, bytes, *starts).miss(side, *missing);
            prop_assert!(line.redis.buffered() <= 300_000);
        }
        line.end();
        prop_assert!(!line.redis.expects_reply());
    }
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "*1\r\n",
            "*2\r\n",
            "*3\r\n",
            "$4\r\nPING\r\n",
            "$3\r\n",
            "SUBSCRIBE a\r\n",
            "$9\r\nsubscribe\r\n",
            "$1\r\na\r\n",
            ":1\r\n",
            ":0\r\n",
            "+OK\r\n",
            "-ERR\r\n",
            "%1\r\n",
            "|1\r\n",
            ">3\r\n",
            "~2\r\n",
            "_\r\n",
            "#t\r\n",
            "\r",
            "\n",
            "*",
            "$",
            "-",
            "9999999999",
            "$-1\r\n",
            "*-1\r\n",
            "MONITOR\r\n",
            "CLIENT REPLY OFF\r\n",
            "UNSUBSCRIBE\r\n",
            "RESET\r\n",
            "$7\r\nmessage\r\n",
            "PSYNC ? -1\r\n",
            "+1234.5 [0]\r\n",
            "\"",
            "\\",
            "*1048576\r\n",
            "\0",
            "\u{fc}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    vec(token, 0..12).prop_map(|tokens| tokens.concat())
}
