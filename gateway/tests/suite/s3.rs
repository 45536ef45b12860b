//! Objects in a real S3 server's bucket.

use bytes::Bytes;
use gateway::objects::{Digest, Found, ObjectError, ObjectPlace, Objects, Service};

use crate::bucket::Bucket;

#[tokio::test]
async fn an_object_is_there_whole_until_it_is_replaced_or_removed() {
    let Some(bucket) = Bucket::shared() else { return };
    let objects = bucket.objects();
    let name = "site=elm/day=2026-03-01/part-1.parquet";
    assert_eq!(objects.get(name, 9).await.unwrap(), None);
    objects.put(name, Bytes::from_static(b"first")).await.unwrap();
    assert!(!objects.put_new(name, Bytes::from_static(b"second")).await.unwrap());
    assert_eq!(objects.get(name, 5).await.unwrap().unwrap(), "first");
    assert!(matches!(objects.get(name, 4).await, Err(ObjectError::TooLong { .. })));
    objects.put(name, Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(objects.digest(name, 9).await.unwrap(), Some(Digest::of(b"second")));
    assert_eq!(objects.get_range(name, 2..4).await.unwrap(), "co");
    assert_eq!(objects.bytes(name).await.unwrap(), Some(6));
    assert!(objects.put_new("site=oak/part 2+ü%", Bytes::new()).await.unwrap());
    let found = |name: &str, bytes| Found { name: name.to_owned(), bytes };
    assert_eq!(objects.list("site=elm", 9).await.unwrap(), [found(name, 6)]);
    assert_eq!(objects.list("", 9).await.unwrap().len(), 2);
    objects.delete(name).await.unwrap();
    objects.delete(name).await.unwrap();
    assert_eq!(objects.bytes(name).await.unwrap(), None);
    assert_eq!(objects.list("", 9).await.unwrap(), [found("site=oak/part 2+ü%", 0)]);
}

#[tokio::test]
async fn a_file_of_several_pieces_is_one_object() {
    let Some(bucket) = Bucket::shared() else { return };
    let objects = bucket.objects();
    let path = bucket.path().join("file");
    for bytes in [0_usize, 5, 20 * 1024 * 1024 + 3] {
        let body: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
        std::fs::write(&path, &body).unwrap();
        let put = objects.put_file("file", &path).await.unwrap();
        assert_eq!(put, Digest::of(&body));
        assert_eq!(objects.digest("file", bytes as u64).await.unwrap(), Some(put));
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_to_look_at_the_credentials() {
    let Some(bucket) = Bucket::shared() else { return };
    let service = bucket.running().service();
    let file = bucket.path().join("others");
    std::fs::write(&file, "aws_access_key_id = AKROADSTEAD\naws_secret_access_key = wrong\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let service = Service { credentials: Some(file), ..service };
    let place = ObjectPlace::new("s3://region/other", bucket.path(), service).unwrap();
    let refused = Objects::open(&place)
        .unwrap()
        .put("a", Bytes::from_static(b"x"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("check the credentials"), "{refused:?}");
}
