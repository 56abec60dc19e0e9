//! Which entries came with a bite, as bytes in `touched.ranges`.

use super::readers::ReadError;
use crate::Touched;
use tertulia_protocol::{ConvoId, Seq};

/// A conversation, and the first and the last of its new entries.
type Stored = ([u8; 16], u64, u64);

pub(super) fn encode(ranges: &[Touched]) -> Result<Vec<u8>, postcard::Error> {
    let stored: Vec<Stored> =
        ranges.iter().map(|range| (*range.convo.as_bytes(), range.first.get(), range.last.get())).collect();
    postcard::to_stdvec(&stored)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Touched>, ReadError> {
    let stored: Vec<Stored> = postcard::from_bytes(bytes)
        .map_err(|error| ReadError::Row(format!("what came with a commit: {error}")))?;
    let touched = |(convo, first, last): Stored| {
        let (first, last) = (Seq::new(first), Seq::new(last));
        Touched { convo: ConvoId::from_bytes(convo), first, last }
    };
    Ok(stored.into_iter().map(touched).collect())
}
