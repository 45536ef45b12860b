//! A filing key's 16 bytes as the database's `uuid`: the one type of that length that every engine has and compares as bytes.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// The bytes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyBytes(pub(super) [u8; 16]);

impl ToSql for KeyBytes {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl FromSql<'_> for KeyBytes {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(UUID);
}
