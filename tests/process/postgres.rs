//! A region whose store is a PostgreSQL database: its server dies while a site's backlog goes home, and so does the gateway.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use gateway::store::PostgresPlace;
use gateway::store::postgres::own::{OwnServer, programs};
use gateway::store::read::{PostgresReader, StoreReader as _};
use shared::ids::Name;

use crate::load::Load;
use crate::site::Site;
use crate::{store, until};

/// Names the folder of the server's programs; with it their absence is a failure.
const PROGRAMS: &str = "ROADSTEAD_POSTGRES";
const READINGS: u64 = 3000;

#[test]
fn a_backlog_goes_home_once_though_its_database_and_its_gateway_are_killed_meanwhile() {
    let told = std::env::var_os(PROGRAMS).map(PathBuf::from);
    let Some(programs) = told.or_else(programs) else {
        println!("NOT TRIED: there is no PostgreSQL here; `cargo xtask test --tier postgres` fetches one");
        return;
    };
    let mut site = Site::make(3);
    let mut server = OwnServer::start(&programs, &site.board_dir(1).with_file_name("postgres")).unwrap();
    let url = server.database("region").unwrap();
    site.extend_gateway(&format!("[store]\nkind = \"postgres\"\nurl = \"{url}\""));
    site.start_boards();
    let mut accounts = Vec::new();
    for board in 1..=3 {
        accounts.push(Load::start(site.mqtt(board), &format!("loop-{board}"), 2000, READINGS).wait());
    }
    let loads: Vec<Load> = (1..=3)
        .map(|board| Load::start(site.mqtt(board), &format!("later-{board}"), 400, READINGS))
        .collect();
    site.start_gateway();
    let place = PostgresPlace::new(&url, None, None).unwrap();
    let stored = || {
        let counts = PostgresReader::open(&place).and_then(|reader| reader.counts(&Name::try_from("site").unwrap()));
        counts.map_or(0, |counts| counts.sum(|of| of.rows))
    };
    for round in 0..4 {
        let before = stored();
        assert!(
            until(Duration::from_secs(30), || stored() > before),
            "round {round}: nothing moves\n{}",
            site.tails()
        );
        match round {
            0 => server.kill().unwrap(),
            1 => server.stop_at_once().unwrap(),
            2 => server.stop().unwrap(),
            _ => site.kill_gateway(),
        }
        sleep(Duration::from_millis(300));
        if round < 3 {
            server.go_on().unwrap();
        } else {
            site.start_gateway();
        }
    }
    accounts.extend(loads.into_iter().map(Load::wait));
    let rows = store::expect_read(&accounts, || {
        PostgresReader::open(&place).map_or_else(|_| Vec::new(), |reader| store::rows_of(&reader))
    });
    assert_eq!(rows.len() as u64, 6 * READINGS, "each reading is one row");
    let (is_taken, said) = site.command(0, &["backup", "take", "--plain", "--to", "/nowhere"]);
    assert!(!is_taken && said.contains("pgBackRest") && !said.contains("user="), "{said}");
}
