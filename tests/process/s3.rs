//! What goes to a bucket, with a real S3 server: SeaweedFS, on loopback.

use std::path::PathBuf;

use gateway::objects::own::OwnService;

use crate::backups::older_one_comes_back;

/// Names SeaweedFS's program; with it its absence is a failure.
const PROGRAM: &str = "ROADSTEAD_S3";

#[test]
fn an_older_encrypted_backup_in_a_bucket_is_put_back_and_the_site_sends_the_rest_again() {
    let Some(program) = std::env::var_os(PROGRAM).map(PathBuf::from) else {
        eprintln!("NOT TRIED: there is no S3 server here; `cargo xtask test --tier s3` fetches one");
        return;
    };
    let dir = std::env::temp_dir().join(format!("roadstead-bucket-{}", std::process::id()));
    let running = OwnService::start(&program, &dir).unwrap();
    let (endpoint, credentials) = (format!("http://{}", running.address()), running.credentials());
    let service = ["--endpoint", &endpoint, "--credentials", credentials.to_str().unwrap()];
    older_one_comes_back("s3://region/backups", &service);
}
