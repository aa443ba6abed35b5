//! When too many connections are where only young ones should be, and an inventory has to move them.
use std::time::Duration;

const AT_FIRST: Duration = Duration::from_secs(10);

/// An inventory leaves those that no pass has shown yet and those that no descriptor leads to: where many are left it is
/// tried again, ever later.
pub struct Crowding {
    wait: Duration,
    at_most: Duration,
}

impl Crowding {
    pub fn new(at_most: Duration) -> Self {
        Self {
            wait: AT_FIRST,
            at_most: at_most.max(AT_FIRST),
        }
    }

    /// Whether an inventory is due, that long after the last one.
    pub fn is_due(&mut self, crowded: bool, since_last: Duration) -> bool {
        if !crowded {
            self.wait = AT_FIRST;
            return false;
        }
        let due = since_last >= self.wait;
        if due {
            self.wait = (2 * self.wait).min(self.at_most);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_an_inventory_leaves_is_looked_at_again_ever_later() {
        let mut crowding = Crowding::new(seconds(60));
        assert!(!crowding.is_due(true, seconds(9)));
        for wait in [10, 20, 40, 60, 60] {
            assert!(!crowding.is_due(true, seconds(wait - 1)), "{wait}");
            assert!(crowding.is_due(true, seconds(wait)), "{wait}");
        }
    }

    #[test]
    fn once_there_is_room_it_begins_anew() {
        let mut crowding = Crowding::new(seconds(60));
        assert!(crowding.is_due(true, seconds(10)));
        assert!(!crowding.is_due(false, seconds(100)));
        assert!(crowding.is_due(true, seconds(10)));
    }

    #[test]
    fn it_is_never_more_often_than_every_ten_seconds() {
        let mut crowding = Crowding::new(seconds(1));
        for _ in 0..3 {
            assert!(!crowding.is_due(true, seconds(9)));
            assert!(crowding.is_due(true, seconds(10)));
        }
    }
}
