//! With programs in the place of bubblewrap that fail under certain circumstances.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::super::{Policy, Tools, UserRange, script};
use super::*;

/// What stands for bubblewrap: `condition` is shell; where it does not hold, it is the real one.
fn sandbox(directory: &TempDir, policy: &Policy, condition: &str) -> Sandbox {
    fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
    let mut tools = Tools::find().unwrap();
    let fake = directory.path().join("bwrap");
    let real = tools.bwrap.display();
    let text = format!("if {condition}; then echo no >&2; exit 1; fi\nexec {real} \"$@\"");
    script::write(&fake, &text);
    tools.bwrap = fake;
    Sandbox::new(tools, policy).unwrap()
}

fn own_users() -> Policy {
    let users = Some(UserRange { first: 2_000_000_000, count: 65_536 });
    Policy { users, ..Policy::default() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn root_runs_no_job_as_root_unless_told_to() {
    let directory = TempDir::new().unwrap();
    let fails_as_other = r#"[ "$(id -u)" -ge 2000000000 ]"#;
    let mut sandbox = sandbox(&directory, &own_users(), fails_as_other);
    let probed = sandbox.probe(&directory.path().join("trial")).await;
    if is_root() {
        let error = probed.unwrap_err().to_string();
        assert!(error.contains("jobs would run as root"), "{error}");
        assert!(error.contains("sandbox.uid_count: 0"), "{error}");
    } else {
        assert!(!probed.unwrap().own_user);
    }
}

#[tokio::test]
async fn one_failure_costs_nothing() {
    let directory = TempDir::new().unwrap();
    let once = directory.path().join("once");
    let fails_once = format!("[ ! -e {0} ] && : > {0}", once.display());
    let mut sandbox = sandbox(&directory, &Policy::default(), &fails_once);
    let before = sandbox.isolation();
    assert_eq!(sandbox.probe(&directory.path().join("trial")).await, Ok(before));
    assert!(once.exists());
}

#[tokio::test]
async fn users_are_kept_where_control_groups_are_to_blame() {
    let directory = TempDir::new().unwrap();
    let mut sandbox = sandbox(&directory, &own_users(), "grep -q aitbc-job- /proc/self/cgroup");
    let had_groups = sandbox.isolation().has(Piece::Cgroup);
    let isolation = sandbox.probe(&directory.path().join("trial")).await.unwrap();
    assert_eq!(isolation.own_user, is_root());
    // A group that is joined only later is not seen by what stands for bubblewrap.
    let joined_at_once = sandbox.cgroups.is_err();
    assert_eq!(isolation.has(Piece::Cgroup), had_groups && !joined_at_once);
}

#[tokio::test]
async fn what_never_works_is_said_as_it_was_said() {
    let directory = TempDir::new().unwrap();
    let mut sandbox = sandbox(&directory, &own_users(), "true");
    let error = sandbox.probe(&directory.path().join("trial")).await.unwrap_err();
    assert_eq!(error, Unavailable::Refused("no".to_owned()));
}
