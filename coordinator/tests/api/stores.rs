//! Places for files: a bucket as well as a directory, and the right one.

use axum::body::Bytes;
use coordinator::app::random_u128;
use coordinator::artifacts::place::{self, PlaceError};
use coordinator::artifacts::{Artifacts, Kind};
use coordinator::config::Config;
use coordinator::error::ApiError;
use futures_util::{StreamExt as _, stream};
use protocol::{Sha256Hex, Timestamp};
use serde_json::json;

use crate::process::{Home, Service, http};
use crate::support::{Engine, PostgresDatabase, Request, TestApp, on_both_engines, proven};

/// A bucket of a test's own, and the settings that name it.
struct Bucket {
    url: String,
    config: Config,
    dir: tempfile::TempDir,
}

impl Bucket {
    async fn create() -> Self {
        let url = std::env::var("TEST_S3_URL")
            .expect("TEST_S3_URL is not set: scripts/test starts a server and sets it");
        let name = format!("test-{:032x}", random_u128());
        let made = http().put(format!("{url}/{name}")).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let text = "[default]\naws_access_key_id = id\naws_secret_access_key = hunter2\n";
        std::fs::write(&keys, text).unwrap();
        let mut config = Config::default();
        config.artifacts.store = Some(format!("s3://{name}/files/of/mine"));
        config.artifacts.endpoint = Some(url.clone());
        config.artifacts.region = Some("us-east-1".to_owned());
        config.artifacts.path_style = true;
        config.artifacts.credentials_file = Some(keys);
        Self { url: format!("{url}/{name}"), config, dir }
    }

    fn open(&self) -> Artifacts {
        place::open(&self.config).unwrap()
    }

    /// The names of all objects in it.
    async fn objects(&self) -> Vec<String> {
        let list = http().get(format!("{}?list-type=2", self.url)).send().await.unwrap();
        let text = list.text().await.unwrap();
        let names = text.split("<Key>").skip(1);
        names.map(|rest| rest.split("</Key>").next().unwrap().to_owned()).collect()
    }
}

/// More than two parts of an upload.
fn large() -> Vec<u8> {
    (0..12 * 1024 * 1024_u32).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn a_bucket_keeps_what_is_placed_and_nothing_else() {
    let bucket = Bucket::create().await;
    let artifacts = bucket.open();
    artifacts.probe().await.unwrap();
    assert_eq!(bucket.objects().await, [""; 0]);
    let bytes = large();
    let chunks: Vec<_> = bytes.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    let mut file = artifacts.put(Kind::Artifact, u64::MAX, stream::iter(chunks)).await.unwrap();
    assert_eq!(file.sha256, Sha256Hex::of(&bytes));
    let location = file.location().to_owned();
    let placed = format!("files/of/mine/{location}");
    assert!(!bucket.objects().await.contains(&placed));
    file.place().await.unwrap();
    assert_eq!(bucket.objects().await, [placed]);
    let read = async |range| {
        let parts: Vec<_> = artifacts.open(&location, range).await.unwrap().collect().await;
        parts.into_iter().flat_map(|part| part.unwrap().to_vec()).collect::<Vec<u8>>()
    };
    assert!(read(None).await == bytes);
    assert!(read(Some(6_000_000..6_000_100)).await == bytes[6_000_000..6_000_100]);
    // Nobody claims it: it goes away.
    drop(file);
    while !bucket.objects().await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_in_a_bucket() {
    let bucket = Bucket::create().await;
    let artifacts = bucket.open();
    let parts = [Ok(Bytes::from(large())), Err(ApiError::overloaded())];
    assert!(artifacts.put(Kind::Input, u64::MAX, stream::iter(parts)).await.is_err());
    let unfinished = async || {
        let list = http().get(format!("{}?uploads", bucket.url)).send().await.unwrap();
        list.text().await.unwrap().matches("<UploadId>").count()
    };
    while unfinished().await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bucket.objects().await, [""; 0]);
}

#[tokio::test]
async fn jobs_leave_their_files_in_a_bucket() {
    let bucket = Bucket::create().await;
    let app = TestApp::with_artifacts(Engine::Sqlite, bucket.open()).await;
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    let id = client.submit(json!({"workload": "hash", "artifacts": [{"path": "a"}]})).await;
    let job = miner.take().await;
    miner.upload(&job, &[("a", b"hello world")]).await.expect(201);
    let mut proof = miner.proof(&job, "x");
    proof.artifacts = vec![proven("a", b"hello world")];
    miner.prove(&proof).await.expect(201);
    let path = format!("/v1/jobs/{id}/artifacts/1");
    assert_eq!(client.get(&path).await.expect(200).text(), "hello world");
    let part = Request::get(&path).header("range", "bytes=6-");
    assert_eq!(client.send(part).await.expect(206).text(), "world");
    client.send(Request::delete(&format!("/v1/jobs/{id}"))).await.expect(204);
    assert_eq!(bucket.objects().await, [""; 0]);
}

#[tokio::test]
async fn a_bucket_that_does_not_work_is_found_out_at_once() {
    let mut bucket = Bucket::create().await;
    bucket.config.artifacts.store = Some("s3://there-is-no-such-bucket".to_owned());
    let error = bucket.open().probe().await.unwrap_err();
    assert!(matches!(error, PlaceError::Store { what: "write", .. }), "{error}");
    let text = format!("{error} {error:?} {:?}", bucket.open());
    assert!(!text.contains("hunter2"), "{text}");
    std::fs::write(bucket.dir.path().join("keys"), "[default]\n").unwrap();
    assert!(matches!(place::open(&bucket.config), Err(PlaceError::Io { .. })));
}

#[tokio::test]
async fn a_service_keeps_its_files_in_a_bucket() {
    let bucket = Bucket::create().await;
    let home = Home::new();
    let file = home.path().join("c.yaml");
    let settings = json!({"artifacts": bucket.config.artifacts});
    std::fs::write(&file, settings.to_string()).unwrap();
    let mut args = vec!["--config", file.to_str().unwrap()];
    args.extend(home.settings());
    let service = Service::open(&args).await;
    assert_eq!(service.status("/readyz", None).await, 200);
    let log = service.log.text();
    assert!(!log.contains("hunter2"), "{log}");
    assert_eq!(bucket.objects().await, ["files/of/mine/mark"]);
}

on_both_engines! {
    async fn a_database_knows_its_store(app: TestApp) {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [own, other] = dirs.each_ref().map(|dir| Artifacts::local(dir.path()).unwrap());
        let now: Timestamp = app.clock.now();
        let db = &app.app.db;
        own.check_mark(db, now).await.unwrap();
        own.check_mark(db, now).await.unwrap();
        let foreign = other.check_mark(db, now).await.unwrap_err();
        assert!(matches!(foreign, PlaceError::Foreign { .. }), "{foreign}");
        assert!(foreign.to_string().contains("it has no mark"), "{foreign}");
        let mark = std::fs::read_to_string(dirs[0].path().join("mark")).unwrap();
        std::fs::write(dirs[1].path().join("mark"), "another").unwrap();
        let foreign = other.check_mark(db, now).await.unwrap_err();
        assert!(foreign.to_string().contains(&mark), "{foreign}");
        // Somebody who knows what they do.
        std::fs::write(dirs[1].path().join("mark"), format!("{mark}\n")).unwrap();
        other.check_mark(db, now).await.unwrap();
    }

    async fn a_new_database_takes_no_store_with_files_of_another(app: TestApp) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mark"), "old").unwrap();
        let artifacts = Artifacts::local(dir.path()).unwrap();
        let (db, now) = (&app.app.db, app.clock.now());
        for area in ["artifacts", "inputs"] {
            let shard = dir.path().join(area).join("0A");
            std::fs::create_dir_all(&shard).unwrap();
            std::fs::write(shard.join("01HZX0A"), "x").unwrap();
            let taken = artifacts.check_mark(db, now).await.unwrap_err();
            assert!(matches!(&taken, PlaceError::Taken { found } if found == "old"), "{taken}");
            std::fs::remove_dir_all(dir.path().join(area)).unwrap();
        }
        // As a first start leaves it that ended before its commit.
        artifacts.check_mark(db, now).await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("mark")).unwrap(), "old");
    }
}

#[tokio::test]
async fn a_replica_with_another_store_does_not_start() {
    let database = PostgresDatabase::create().await;
    let (first, second) = (Home::with_database(&database.url), Home::with_database(&database.url));
    let _service = Service::open(&first.settings()).await;
    let mut refused = Service::start(&second.settings()).await;
    assert_eq!(refused.ended().await.code(), Some(1));
    refused.log.wait_for("is not the store that this database's files are in").await;
}

#[tokio::test]
async fn a_start_leaves_the_uploads_of_another_process_alone() {
    let dir = tempfile::tempdir().unwrap();
    let one = Artifacts::local(dir.path()).unwrap();
    let chunks = stream::iter([Ok(Bytes::from_static(b"x"))]);
    let mut file = one.put(Kind::Input, 9, chunks).await.unwrap();
    Artifacts::local(dir.path()).unwrap().probe().await.unwrap();
    file.place().await.unwrap();
}
