//! The embedded store against the suite of its port, and what it alone promises.

mod ahead;
mod crash;
mod feed;
mod full;
mod kill;
mod open;
#[cfg(unix)]
mod power;
mod support;

use support::{Ahead, Tiny, UnderTest};

crate::store_suite!(UnderTest);

/// All of it again where everything is forgotten, settled and waited for all the time.
mod tiny {
    use super::Tiny;

    crate::store_suite!(Tiny);
}

/// And where nothing is settled in its turn that somebody reads.
mod before_turn {
    use super::Ahead;

    crate::store_suite!(Ahead);
}
