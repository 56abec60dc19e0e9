//! Who is there: the merged view over a user's connections.

use std::time::Duration;

use tertulia_protocol::Timestamp;
use tertulia_protocol::event::Presence;

/// What one connection says of its user.
#[derive(Debug, Clone, Copy)]
pub struct Sign {
    /// The last frame that came from it.
    pub last_life: Timestamp,
    /// Whether its user is looking elsewhere.
    pub away: bool,
}

/// What a user is, given a sign of each of his connections: online if any that was alive within `ttl` says so,
/// away if all of those say away, else offline.
pub fn merge(signs: impl IntoIterator<Item = Sign>, now: Timestamp, ttl: Duration) -> Presence {
    let alive = signs.into_iter().filter(|sign| now.since(sign.last_life) < ttl);
    alive.fold(Presence::Offline, |presence, sign| match (presence, sign.away) {
        (Presence::Online, _) | (_, false) => Presence::Online,
        (_, true) => Presence::Away,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(signs: &[(i64, bool)], expected: Presence) {
        let signs =
            signs.iter().map(|&(ago, away)| Sign { last_life: Timestamp::from_millis(100_000 - ago), away });
        assert_eq!(merge(signs, Timestamp::from_millis(100_000), Duration::from_secs(60)), expected);
    }

    #[test]
    fn any_connection_that_is_online_makes_its_user_online() {
        check(&[], Presence::Offline);
        check(&[(0, false)], Presence::Online);
        check(&[(0, true)], Presence::Away);
        check(&[(0, true), (10, false)], Presence::Online);
        check(&[(10, false), (0, true)], Presence::Online);
    }

    #[test]
    fn no_ghost_stays_longer_than_the_ttl() {
        check(&[(59_999, false)], Presence::Online);
        check(&[(60_000, false)], Presence::Offline);
        check(&[(60_000, false), (0, true)], Presence::Away);
    }
}
