//! What was counted in one world, or in many.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts over one run or many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            /// Time that passed in the world.
            pub virtual_time: Duration,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                self.virtual_time += other.virtual_time;
                $(self.$name += other.$name;)*
            }
        }
    };
}

tally! {
    /// Things that happened.
    events,
    /// Faults that struck.
    faults,
    /// Readings published.
    published,
    /// Readings sent again.
    sent_again,
    /// Readings acknowledged.
    acknowledged,
    /// Of these, on fewer than k boards, visibly.
    degraded,
    /// Rows in the region's store.
    rows,
    /// Rows in the store of the region that stands by.
    rows_standby,
    /// Acknowledged readings that the better region lacks at the end, since the other one had them and no board keeps them.
    released_elsewhere,
    /// Times that a board was told that it speaks with another region.
    region_changes,
    /// Times that a board found a stream's coverage to have gone back.
    went_back,
    /// Records that a gap record declared shed and that never came.
    shed,
    /// Readings that the region had already as rows.
    duplicates_met,
    /// Starts of a board's process.
    boots,
    /// Ends of a board's process, power cuts included.
    crashes,
    /// Power cuts of a board.
    power_cuts,
    /// Power cuts of a whole site.
    site_power_cuts,
    /// Times that blocks on a disk rotted.
    rots,
    /// Disks replaced by an empty one.
    replaced,
    /// Times that records were found to be missing.
    missing,
    /// Times that a board had all again that was missing.
    repaired,
    /// Ranges of which no board had a copy any more.
    gone,
    /// Copies sent because they were missing.
    repairs,
    /// Boards lost for ever.
    lost_boards,
    /// Processes that stopped as asked.
    stops,
    /// Failed disk jobs that ended a process.
    poisoned,
    /// Torn tails cut.
    torn,
    /// Segments freed by a rename.
    freed,
    /// Times that records of a class were shed to free a segment.
    sheddings,
    /// Times that a device had no room for another file.
    device_full,
    /// Damage found before valid blocks.
    damaged,
    /// Times a journal was full.
    full,
    /// Processes that stood still for a while.
    pauses,
    /// Leaderships begun.
    takeovers,
    /// Obituaries that supervisors sent.
    obituaries,
    /// Ends of the witness's process.
    witness_crashes,
    /// Times that a process of a duty began to act.
    duties_begun,
    /// Processes of duties killed because their lease ended.
    dead_man_kills,
    /// Commands that were refused for their token.
    stale_commands,
    /// Times that a healed site was in accord and then not.
    accords_broken,
    /// Connections between boards that fell.
    links_fallen,
    /// Sessions with the region that fell.
    sessions_fallen,
    /// Copies of alarms that a second path carried.
    copies_beside,
    /// Crashes of the region's process.
    region_crashes,
    /// Hellos of an earlier leadership repeated at the region.
    stale_hellos,
    /// Sessions that the region closed.
    sessions_closed,
    /// Sessions that the region refused.
    sessions_refused,
    /// Blocks of which the region had a part already.
    blocks_again,
    /// Transactions of the region.
    transactions,
    /// Journal writes.
    appends,
    /// Copies sent.
    copies,
    /// Messages on reliable connections.
    messages,
    /// Datagrams.
    datagrams,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "virtual time   {:.0} s, {} events, {} faults",
            self.virtual_time.as_secs_f64(),
            self.events,
            self.faults
        )?;
        writeln!(
            f,
            "readings       {} published, {} acknowledged ({} visibly degraded), {} rows, {} shed, {} sent again, {} met their row",
            self.published,
            self.acknowledged,
            self.degraded,
            self.rows,
            self.shed,
            self.sent_again,
            self.duplicates_met
        )?;
        writeln!(
            f,
            "boards         {} starts, {} crashes, {} power cuts, {} site power cuts, {} lost, {} pauses, {} stops, {} takeovers, {} accords broken",
            self.boots,
            self.crashes,
            self.power_cuts,
            self.site_power_cuts,
            self.lost_boards,
            self.pauses,
            self.stops,
            self.takeovers,
            self.accords_broken
        )?;
        writeln!(
            f,
            "duties         {} begun, {} killed at the end of their lease, {} stale commands refused, {} obituaries, {} witness crashes",
            self.duties_begun, self.dead_man_kills, self.stale_commands, self.obituaries, self.witness_crashes
        )?;
        writeln!(
            f,
            "disks          {} writes, {} failures, {} times rotten, {} replaced, {} torn tails, {} damaged places, {} segments freed, {} times shed, {} times full, {} times no room",
            self.appends,
            self.poisoned,
            self.rots,
            self.replaced,
            self.torn,
            self.damaged,
            self.freed,
            self.sheddings,
            self.full,
            self.device_full
        )?;
        writeln!(
            f,
            "repair         {} times missing, {} times whole again, {} copies made, {} ranges gone",
            self.missing, self.repaired, self.repairs, self.gone
        )?;
        writeln!(
            f,
            "network        {} messages, {} datagrams, {} copies, {} connections fell, {} sessions fell, {} alarms by two paths",
            self.messages, self.datagrams, self.copies, self.links_fallen, self.sessions_fallen, self.copies_beside
        )?;
        self.tell_regions(f)
    }
}

impl Tally {
    fn tell_regions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "region         {} transactions, {} crashes, {} stale hellos, {} sessions refused, {} blocks came again",
            self.transactions, self.region_crashes, self.stale_hellos, self.sessions_refused, self.blocks_again
        )?;
        if self.rows_standby == 0 {
            return Ok(());
        }
        write!(
            f,
            "\nsecond region  {} rows, {} times told of another one, {} readings that the first one lacks and no board keeps",
            self.rows_standby, self.region_changes, self.released_elsewhere
        )
    }
}
