//! Our values as PostgreSQL's, and back.

use std::error::Error;

use bytes::BytesMut;
use tertulia_protocol::{ConvoId, DeviceId, Seq, Timestamp, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::error::Failure;

/// An id: a `uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(
    /// Its bytes.
    pub [u8; 16],
);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(UUID);
}

macro_rules! ids {
    ($($id:ty)*) => {
        $(
            impl From<$id> for Id {
                fn from(id: $id) -> Self {
                    Self(*id.as_bytes())
                }
            }

            impl From<Id> for $id {
                fn from(id: Id) -> Self {
                    Self::from_bytes(id.0)
                }
            }
        )*
    };
}

ids!(ConvoId DeviceId UserId);

/// An integer as it is stored. All of ours are below 2^53 but those of damaged callers, which count as the largest.
pub fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A stored row, whose columns are read by their place.
pub trait RowExt {
    /// A value.
    ///
    /// # Errors
    /// It is not what is asked for, as with all of these.
    fn value<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Failure>;

    /// An id.
    fn id<T: From<Id>>(&self, at: usize) -> Result<T, Failure> {
        self.value::<Id>(at).map(T::from)
    }

    /// A count or number of ours.
    fn count(&self, at: usize) -> Result<u64, Failure> {
        self.value::<i64>(at).map(i64::cast_unsigned)
    }

    /// A place in a log.
    fn seq(&self, at: usize) -> Result<Seq, Failure> {
        self.count(at).map(Seq::new)
    }

    /// Milliseconds since 1970.
    fn time(&self, at: usize) -> Result<Timestamp, Failure> {
        self.value(at).map(Timestamp::from_millis)
    }
}

impl RowExt for Row {
    fn value<'a, T: FromSql<'a>>(&'a self, at: usize) -> Result<T, Failure> {
        self.try_get(at).map_err(|error| Failure::Row(error.to_string()))
    }
}
