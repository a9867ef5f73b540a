//! Directories, locks and what is kept.

use super::*;
use crate::runners::tests::job;

const HOUR: Duration = Duration::from_secs(3600);

fn workspace() -> (tempfile::TempDir, Workspace) {
    let root = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(&root.path().join("work")).unwrap();
    (root, workspace)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_job_has_private_directories_and_a_state() {
    let (_root, workspace) = workspace();
    let dir = workspace.create(&job("hash"), Timestamp::from_micros(5)).unwrap();
    for path in [dir.input(), dir.work(), dir.output(), dir.path().join("logs")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    assert_eq!(mode(&dir.path().join("state.json")), 0o600);
    dir.enter(Phase::Running, Timestamp::from_micros(6)).unwrap();
    let state = dir.state().unwrap();
    assert_eq!((state.phase, state.updated_at.micros()), (Phase::Running, 6));
    assert_eq!(state.job, job("hash"));
    assert_eq!(workspace.jobs().unwrap(), [dir]);
}

#[test]
fn a_second_lease_starts_from_nothing() {
    let (_root, workspace) = workspace();
    let dir = workspace.create(&job("hash"), Timestamp::from_micros(0)).unwrap();
    fs::write(dir.work().join("old"), "x").unwrap();
    fs::write(dir.report_file(), "x").unwrap();
    workspace.create(&job("hash"), Timestamp::from_micros(1)).unwrap();
    assert!(!dir.work().join("old").exists() && !dir.report_file().exists());
}

#[test]
fn one_node_per_directory() {
    let (root, workspace) = workspace();
    let again = Workspace::open(&root.path().join("work"));
    assert!(matches!(again, Err(WorkspaceError::Busy(_))));
    drop(workspace);
    assert!(Workspace::open(&root.path().join("work")).is_ok());
}

#[test]
fn finished_jobs_are_kept_as_long_as_the_owner_wants() {
    let (_root, workspace) = workspace();
    let dir = workspace.create(&job("hash"), Timestamp::from_micros(0)).unwrap();
    let later = |hours: i64| Timestamp::from_micros(0).plus_secs(hours * 3600);
    let sweep = |now| workspace.sweep(now, HOUR, 3 * HOUR).unwrap();
    assert_eq!(sweep(later(100)), 0, "not over");
    dir.enter(Phase::Failed, later(0)).unwrap();
    assert_eq!(sweep(later(2)), 0);
    dir.enter(Phase::Done, later(0)).unwrap();
    assert_eq!(sweep(later(2)), 1);
    assert!(!dir.path().exists());
}

#[test]
fn trees_that_a_job_locked_are_removed_too() {
    let root = tempfile::tempdir().unwrap();
    let locked = root.path().join("a/b");
    fs::create_dir_all(&locked).unwrap();
    fs::write(locked.join("file"), "x").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o500)).unwrap();
    remove_tree(&root.path().join("a")).unwrap();
    assert!(!root.path().join("a").exists());
    remove_tree(&root.path().join("a")).unwrap();
}

#[test]
fn half_a_file_is_never_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.json");
    write_json(&path, &"old").unwrap();
    fs::write(root.path().join("x.tmp"), "\"ne").unwrap();
    assert_eq!(read_json::<String>(&path).unwrap(), "old");
    write_json(&path, &"new").unwrap();
    assert_eq!(read_json::<String>(&path).unwrap(), "new");
}
