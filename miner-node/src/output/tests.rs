//! Files as strangers leave them.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::runners::tests::job;
use crate::workdir::Workspace;

fn job_dir() -> (TempDir, JobDir) {
    let root = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(root.path()).unwrap();
    let dir = workspace.create(&job("hash"), protocol::Timestamp::from_micros(0)).unwrap();
    (root, dir)
}

fn rule(path: &str, max_mb: Option<u32>) -> ArtifactRule {
    ArtifactRule { path: path.parse().unwrap(), media_type: None, max_mb }
}

#[test]
fn declared_files_are_hashed_and_linked_out() {
    let (_root, dir) = job_dir();
    fs::create_dir(dir.work().join("sub")).unwrap();
    fs::write(dir.work().join("sub/a.txt"), "hello world\n").unwrap();
    fs::write(dir.work().join("undeclared"), "x").unwrap();
    let rules = [rule("sub/a.txt", Some(1)), rule("sub/a.txt", None)];
    let artifacts = collect(&rules, &dir, 100).unwrap();
    assert_eq!(artifacts.len(), 1);
    assert_eq!(artifacts[0].bytes, 12);
    assert!(artifacts[0].sha256.to_string().starts_with("a948904f"));
    assert_eq!(fs::read(dir.output().join("sub/a.txt")).unwrap(), b"hello world\n");
    // Collecting once more, after a crash, gives the same.
    assert_eq!(collect(&rules, &dir, 100).unwrap(), artifacts);
}

#[test]
fn standard_output_can_be_declared() {
    let (_root, dir) = job_dir();
    fs::write(dir.out_txt(), b"a\0b").unwrap();
    let artifacts = collect(&[rule("out.txt", None)], &dir, 100).unwrap();
    assert_eq!((artifacts[0].sha256, artifacts[0].bytes), (Sha256Hex::of(b"a\0b"), 3));
}

#[test]
fn what_is_missing_too_large_or_no_plain_file_is_refused() {
    let (root, dir) = job_dir();
    let secret = root.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("x"), "secret").unwrap();
    let work = dir.work();
    fs::write(work.join("large"), vec![0; (1 << 20) + 1]).unwrap();
    symlink(&secret, work.join("link")).unwrap();
    symlink(&outside, work.join("linked")).unwrap();
    fs::create_dir(work.join("directory")).unwrap();
    let fifo = work.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    for (path, word) in [
        ("missing", "missing"),
        ("large", "larger"),
        ("link", "cannot be used"),
        ("linked/x", "cannot be used"),
        ("directory", "plain file"),
        ("fifo", "plain file"),
    ] {
        let refusal = collect(&[rule(path, Some(1))], &dir, 10 << 20).unwrap_err();
        assert_eq!(refusal.code, FailureCode::Output);
        assert!(refusal.message.contains(word), "{}", refusal.message);
    }
}

#[test]
fn all_files_together_are_capped() {
    let (_root, dir) = job_dir();
    fs::write(dir.work().join("a"), "12345").unwrap();
    fs::write(dir.work().join("b"), "12345").unwrap();
    assert!(collect(&[rule("a", None), rule("b", None)], &dir, 10).is_ok());
    assert!(collect(&[rule("a", None), rule("b", None)], &dir, 9).is_err());
}

#[test]
fn only_short_text_goes_inline() {
    let (_root, dir) = job_dir();
    let cases: [(&[u8], Option<&str>); 4] =
        [(b"ok\n", Some("ok\n")), (b"", Some("")), (b"a\0b", None), (b"\xff", None)];
    for (bytes, expected) in cases {
        fs::write(dir.out_txt(), bytes).unwrap();
        assert_eq!(inline_text(&dir.out_txt()).as_deref(), expected);
    }
    fs::write(dir.out_txt(), vec![b'a'; 300 << 10]).unwrap();
    assert_eq!(inline_text(&dir.out_txt()), None);
    assert_eq!(tail(&dir.out_txt(), 4), "aaaa");
    // As JSON each of these takes six bytes.
    fs::write(dir.out_txt(), vec![1; 100 << 10]).unwrap();
    assert_eq!(inline_text(&dir.out_txt()), None);
    fs::write(dir.out_txt(), vec![1; 80 << 10]).unwrap();
    assert!(inline_text(&dir.out_txt()).is_some());
    assert_eq!(tail(Path::new("/no/such/file"), 4), "");
}
