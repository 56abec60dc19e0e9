//! Search: what a message is found by, what can be asked, and the index behind it.
//!
//! - [`words`] is the one tokenizer: for index, query and snippet alike.
//! - [`Query`] is what a user writes, [`Term`] what it comes to.
//! - [`SearchIndex`] is the port; [`Embedded`] the adapter in a file of the data folder, [`postgres`] the one that nodes
//!   share. Every adapter passes the suite of the port (`testsuite`): all of them give the same answers.
//! - [`snippet()`] marks in a message what was sought.
//!
//! The index is derived: it is fed from the logs, and whoever deletes it gets it back.

mod embedded;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod port;
pub mod postgres;
mod query;
mod snippet;
mod term;
#[cfg(any(test, feature = "testsuite"))]
pub mod testsuite;
pub mod words;

pub use embedded::Embedded;
pub use port::{
    Change, Document, Found, Hit, IndexError, Order, Place, RANKED_MAX, Search, SearchIndex, rank,
};
pub use query::{Author, QUERY_BYTES_MAX, QUERY_WORDS_MAX, Query};
pub use snippet::snippet;
pub use term::{Term, find};
