//! The embedded store against the suite of its port, and what it alone promises.

mod support;

use support::UnderTest;

crate::store_suite!(UnderTest);
