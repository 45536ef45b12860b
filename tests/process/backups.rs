//! The region's disk is lost, and what it held comes back from a backup that was taken while it ran.

use std::fs;

use gateway::store::FILE;

use crate::load::Load;
use crate::site::Site;
use crate::store;

const READINGS: u64 = 400;

#[test]
fn a_backup_taken_while_the_gateway_runs_is_put_back_after_its_store_is_lost_and_the_site_goes_on() {
    let mut site = Site::start(2);
    let backups = site.data_dir().with_file_name("backups");
    let to = backups.to_str().unwrap();
    let mut accounts = vec![Load::start(site.mqtt(1), "loop-1", 200, READINGS).wait()];
    store::expect_all(&site, &accounts);
    let load = Load::start(site.mqtt(2), "loop-2", 200, READINGS);
    let (is_taken, said) = site.command(0, &["backup", "take", "--to", to]);
    assert!(is_taken, "{said}");
    accounts.push(load.wait());
    store::expect_all(&site, &accounts);
    assert!(site.command(0, &["backup", "take", "--to", to]).0);

    let (is_restored, said) = site.command(0, &["restore", "--from", to]);
    assert!(!is_restored && said.contains("stop the gateway first"), "{said}");
    site.kill_gateway();
    // The log of the one that was killed is left where a hasty operator removed the store.
    fs::remove_file(site.data_dir().join(FILE)).unwrap();
    accounts.push(Load::start(site.mqtt(1), "loop-3", 200, READINGS).wait());
    let (is_restored, said) = site.command(0, &["restore", "--from", to]);
    assert!(is_restored, "{said}");
    site.start_gateway();
    store::expect_all(&site, &accounts);
}
