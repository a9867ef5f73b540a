//! Directories, locks and what is kept.

use std::os::unix::fs::PermissionsExt as _;

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
fn an_older_lease_that_is_settled_meanwhile_leaves_the_new_attempt_alone() {
    let (_root, workspace) = workspace();
    let leased = |token: u128| {
        let mut job = job("hash");
        job.lease.token = LeaseToken::from_u128(token);
        job
    };
    let at = Timestamp::from_micros(0);
    for round in 0..200 {
        let (old, new) = (leased(2 * round), leased(2 * round + 1));
        let dir = workspace.create(&old, at).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let settled = workspace.if_still(&dir, old.lease.token, |state| {
                    dir.save(&State { phase: Phase::Failed, ..state })
                });
                settled.unwrap();
            });
            workspace.create(&new, at).unwrap();
        });
        let state = dir.state().unwrap();
        assert_eq!((state.job.lease.token, state.phase), (new.lease.token, Phase::Pulling));
    }
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
fn little_is_left_of_a_job_that_is_over() {
    let (_root, workspace) = workspace();
    let dir = workspace.create(&job("hash"), Timestamp::from_micros(0)).unwrap();
    for path in [dir.input(), dir.work(), dir.output()] {
        fs::write(path.join("large"), vec![0; 1 << 20]).unwrap();
    }
    fs::write(dir.stderr_log(), "short").unwrap();
    let mut output = vec![b'a'; 1 << 20];
    output.extend_from_slice(b"end");
    fs::write(dir.out_txt(), output).unwrap();
    dir.link_stdout().unwrap();
    workspace.strip(&dir).unwrap();
    workspace.strip(&dir).unwrap();
    let mut left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["logs", "state.json"]);
    assert_eq!(fs::read_to_string(dir.stderr_log()).unwrap(), "short");
    let stdout = fs::read(dir.path().join("logs/stdout.log")).unwrap();
    assert_eq!(stdout.len() as u64, KEPT_OUTPUT);
    assert!(stdout.ends_with(b"end"));
}

#[test]
fn a_short_output_is_kept_as_it_is() {
    let (_root, workspace) = workspace();
    let dir = workspace.create(&job("hash"), Timestamp::from_micros(0)).unwrap();
    fs::write(dir.out_txt(), "output").unwrap();
    workspace.strip(&dir).unwrap();
    assert_eq!(fs::read_to_string(dir.out_txt()).unwrap(), "output");
}

#[test]
fn a_directory_that_others_can_change_is_no_workspace() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Workspace::open(root.path()), Err(WorkspaceError::NotPrivate(_))));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing was written");
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
