//! What gateways of one database tell each other: how many sites each has. On a connection of its own, as the writer's may wait for a
//! transaction, and in a table that no transaction of the store touches.

use shared::hub::Load;

use super::place::PostgresPlace;
use super::session::{Session, get};
use crate::store::StoreError;

/// A gateway that has said nothing for so long, by the server's clock, is not alive.
const ALIVE_MILLIS: i64 = 10_000;
/// One that has said nothing for so long may be dead: two exchanges, and half a second for a slow one.
const SPOKEN_MILLIS: i64 = 4_500;
/// What one said this long ago is removed by whoever comes by.
const FORGOTTEN_MILLIS: i64 = 60_000;
/// Nothing here has to last, so no commit waits for a disk or a standby; and a lock that is held is not waited for for long.
const HASTE: &str = "SET synchronous_commit TO off; SET lock_timeout TO '2s'; SET statement_timeout TO '5s'";

/// The table of loads, as one gateway sees it.
#[derive(Debug)]
pub struct PostgresLoads {
    place: PostgresPlace,
    session: Option<Session>,
    incarnation: u64,
}

impl PostgresLoads {
    /// The loads at `place`, which was opened for writing before under `incarnation`. Connects when there is something to tell.
    pub const fn new(place: PostgresPlace, incarnation: u64) -> Self {
        Self { place, session: None, incarnation }
    }

    /// The same without what it has of the server.
    pub fn another(&self) -> Self {
        Self::new(self.place.clone(), self.incarnation)
    }

    /// Tells the others that so many sites have a session here, and reads what those that are alive have told. Blocks, for some
    /// seconds at most where the server answers at all; after an error the next call connects anew.
    pub fn tell(&mut self, sites: u32) -> Result<Vec<Load>, StoreError> {
        let mut session = self.session()?;
        let told = exchange(&mut session, self.incarnation, sites)?;
        self.session = Some(session);
        Ok(told)
    }

    /// Tells the others that this gateway ends: from now on it is not alive.
    pub fn leave(&mut self) -> Result<(), StoreError> {
        let mut session = self.session()?;
        session.execute("DELETE FROM gateway WHERE incarnation = $1", &[&self.incarnation.cast_signed()])?;
        Ok(())
    }

    fn session(&mut self) -> Result<Session, StoreError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let mut session = Session::to_read(&self.place)?;
        session.batch(HASTE)?;
        Ok(session)
    }
}

fn exchange(session: &mut Session, incarnation: u64, sites: u32) -> Result<Vec<Load>, StoreError> {
    let own = incarnation.cast_signed();
    // By the server's clock: those of gateways may be years apart.
    session.execute(
        "INSERT INTO gateway (incarnation, sites, at_ms)
         VALUES ($1, $2, (extract(epoch FROM now()) * 1000)::bigint)
         ON CONFLICT (incarnation) DO UPDATE SET sites = EXCLUDED.sites, at_ms = EXCLUDED.at_ms",
        &[&own, &i64::from(sites)],
    )?;
    session.execute(
        "DELETE FROM gateway WHERE abs((extract(epoch FROM now()) * 1000)::bigint - at_ms) > $1",
        &[&FORGOTTEN_MILLIS],
    )?;
    // One from the future is of before the server's clock was put back.
    let select = "SELECT incarnation, sites, age < $3 FROM
                      (SELECT *, abs((extract(epoch FROM now()) * 1000)::bigint - at_ms) AS age FROM gateway) AS told
                  WHERE incarnation <> $1 AND age < $2 ORDER BY incarnation";
    let load = |row: &tokio_postgres::Row| {
        let (gateway, sites): (i64, i64) = (get(row, 0)?, get(row, 1)?);
        let (gateway, sites) = (gateway.cast_unsigned(), u32::try_from(sites).unwrap_or(0));
        Ok(Load { gateway, sites, has_spoken: get(row, 2)? })
    };
    session
        .query(select, &[&own, &ALIVE_MILLIS, &SPOKEN_MILLIS])?
        .iter()
        .map(load)
        .collect()
}
