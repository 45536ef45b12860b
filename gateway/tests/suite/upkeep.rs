//! A whole gateway that keeps up its store: it archives, removes, tells of both, and stops when it is told to.

use std::time::Instant;

use gateway::config::{GatewayConfig, Retention};
use gateway::objects::{ObjectPlace, Service};
use gateway::store::SqliteStore;

use crate::deposits::{block, put, stream};
use crate::region::{Files, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_archives_and_removes_by_itself_and_still_adds_up() {
    let files = Files::new();
    let config = files.config();
    let (mut store, _) = SqliteStore::open(&config.data_dir).unwrap();
    put(&mut store, &[block(stream(1, 1), 1, 1..=40), block(stream(2, 1), 1, 1..=10)]);
    drop(store);
    let place = ObjectPlace::new("archive", files.scratch.path(), Service::default()).unwrap();
    let retention = Retention { days: [None, Some(30), None] };
    let running = files
        .start_with(GatewayConfig { archive: Some(place), retention, ..config })
        .await;
    let begun = Instant::now();
    let told = loop {
        let told = running.json("/api/sites/elm/counts").await;
        if told["expired"] == 40 {
            break told;
        }
        assert!(begun.elapsed() < PATIENCE, "{told}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((&told["stored"], &told["archived"], &told["duplicates"]), (&40.into(), &40.into(), &10.into()));
    assert_eq!((&told["holes"], &told["reconciles"]), (&0.into(), &true.into()));
    assert_eq!(running.json("/api/sites/elm/records").await["records"], serde_json::json!([]));
    let (_, metrics) = running.get("/metrics").await;
    for line in [
        "roadstead_region_archived_records_total{site=\"elm\"} 40",
        "roadstead_region_expired_records_total{site=\"elm\"} 40",
        "roadstead_region_archived_records_total{site=\"oak\"} 0",
        "roadstead_region_archive_failures_total 0",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line}");
    }
    running.stop().await;
}
