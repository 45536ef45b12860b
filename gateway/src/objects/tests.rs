//! A directory as a place of objects; a bucket is tried in the suite, on a real server.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("roadstead-objects-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn objects(&self) -> Objects {
        let url = self.0.join("place").display().to_string();
        Objects::open(&ObjectPlace::new(&url, Path::new(""), Service::default()).unwrap()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn what_was_put_is_there_whole_until_it_is_replaced_or_removed() {
    let scratch = Scratch::new("put");
    let objects = scratch.objects();
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
    assert!(objects.put_new("site=oak/part-2", Bytes::new()).await.unwrap());
    let found = |name: &str, bytes| Found { name: name.to_owned(), bytes };
    assert_eq!(objects.list("site=elm", 9).await.unwrap(), [found(name, 6)]);
    assert_eq!(objects.list("", 1).await.unwrap().len(), 1);
    objects.delete(name).await.unwrap();
    objects.delete(name).await.unwrap();
    assert_eq!(objects.list("", 9).await.unwrap(), [found("site=oak/part-2", 0)]);
    let refused = objects.put("a/../b", Bytes::new()).await.unwrap_err();
    assert!(refused.to_string().contains("cannot write `a/../b`"), "{refused}");
}

#[tokio::test]
async fn a_file_is_put_in_pieces() {
    let scratch = Scratch::new("file");
    let objects = scratch.objects();
    let path = scratch.0.join("file");
    for bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1] {
        let body: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
        std::fs::write(&path, &body).unwrap();
        let put = objects.put_file("file", &path).await.unwrap();
        assert_eq!(put, Digest::of(&body));
        assert_eq!(objects.digest("file", bytes as u64).await.unwrap(), Some(put));
    }
    let missing = objects.put_file("other", &scratch.0.join("none")).await;
    assert!(matches!(missing, Err(ObjectError::File { .. })));
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let scratch = Scratch::new("secret");
    let file = scratch.0.join("s3.credentials");
    std::fs::write(&file, "aws_access_key_id = A\naws_secret_access_key = S\n").unwrap();
    let open = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let endpoint = Some("http://127.0.0.1:9".to_owned());
        let service = Service { endpoint, credentials: Some(file.clone()), ..Service::default() };
        Objects::open(&ObjectPlace::new("s3://region", Path::new(""), service).unwrap())
    };
    assert!(open(0o600).is_ok());
    assert!(matches!(open(0o640), Err(ObjectError::Exposed { mode: 0o640, .. })));
    assert!(matches!(open(0o604), Err(ObjectError::Exposed { .. })));
    std::fs::write(&file, "nothing").unwrap();
    assert!(matches!(open(0o600), Err(ObjectError::File { .. })));
}

#[tokio::test]
async fn a_service_that_is_away_is_told_with_what_to_do() {
    let service = Service { endpoint: Some("http://127.0.0.1:1".to_owned()), ..Service::default() };
    let place = ObjectPlace::new("s3://region/x", Path::new(""), service).unwrap();
    let builder = AmazonS3Builder::new()
        .with_bucket_name("region")
        .with_endpoint("http://127.0.0.1:1")
        .with_access_key_id("A")
        .with_secret_access_key("S")
        .with_http_connector(dial::Dialer::new(None, false).unwrap())
        .with_retry(RetryConfig { max_retries: 0, ..retries() });
    let store = Arc::new(builder.build().unwrap());
    let objects = Objects { store, prefix: Key::default(), shown: place.to_string() };
    let told = objects.put("a", Bytes::from_static(b"x")).await.unwrap_err();
    let told = link::logging::whole_story(&told);
    assert!(
        told.contains("cannot write `a` in s3://region/x at http://127.0.0.1:1: check that it can be reached"),
        "{told}"
    );
}
