use super::{sessions::*, *};
use proptest::prelude::*;

proptest! {
    #[test]
    fn all_that_was_asked_counts_once_with_its_status(
        acts in prop::collection::vec((act(), any::<bool>()), 1..12),
        logs_in in any::<bool>(),
        cuts in cuts(1),
        watches in any::<bool>(),
    ) {
        let (turns, expected) = session(&acts, logs_in);
        let mut talk = if watches { Talk::watched() } else { Talk::default() };
        for (side, piece, starts) in pieces(&turns, &cuts) {
            talk.hear(side, piece, starts);
        }
        prop_assert!(!talk.dialogue.expects_reply());
        talk.end();
        prop_assert_eq!(talk.statuses(), expected);
        prop_assert_eq!(talk.unparsed(), vec![]);
        prop_assert_eq!(talk.texts().len(), if watches { talk.statuses().len() } else { 0 });
    }

    #[test]
    fn the_order_of_the_sides_is_not_that_strict(
        acts in prop::collection::vec(act(), 1..8),
        size in prop_oneof![1..4usize, 1..300usize],
    ) {
        // A pipeline of any depth: all is asked before anything is answered.
        let acts: Vec<_> = acts.into_iter().filter(|act| act.turns.len() == 2).collect();
        let said = |side| acts.iter().flat_map(move |act| &act.turns).filter(move |turn| turn.0 == side);
        let mut talk = Talk::logged_in();
        for side in [Client, Server] {
            let bytes: Vec<u8> = said(side).flat_map(|turn| turn.1.clone()).collect();
            for piece in bytes.chunks(size) {
                talk.hear(side, piece, true);
            }
        }
        let expected: Vec<_> = acts.iter().flat_map(|act| act.statuses.clone()).collect();
        prop_assert_eq!(talk.end().statuses(), expected);
        prop_assert_eq!(talk.unparsed(), vec![]);
    }
}
