//! What is tried out: whether programs can be isolated here, and each runner that is switched on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Finding, namespaces};
use crate::config::Config;
use crate::private;
use crate::runners::{Remark, Runners, Standing, Trial};
use crate::sandbox::{Piece, Sandbox, Tools, Unavailable};

/// Tries the sandbox, and in it the runners, below a directory of its own.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let root = std::env::temp_dir().join(format!("aitbc-doctor-{}", std::process::id()));
    // Trials under a user id of their own pass through it.
    let made = private::directory(&root).map_err(|error| error.to_string()).and_then(|()| {
        let open = fs::set_permissions(&root, Permissions::from_mode(0o711));
        open.map_err(|error| error.to_string())
    });
    if let Err(why) = made {
        return vec![Finding::fail(
            "trial",
            why,
            "make room in TMPDIR, or set it to a place of yours",
        )];
    }
    let (sandbox, mut findings) = sandbox(config, &root).await;
    findings.extend(runners(config, sandbox.as_ref(), &root).await);
    // Left behind it is only clutter.
    let _ = fs::remove_dir_all(root);
    findings
}

/// Each runner that is switched on, and each server of the owner's.
async fn runners(config: &Config, sandbox: Option<&Sandbox>, root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut runners = Runners::default();
    if let (Some(sandbox), Ok(executable)) = (sandbox, std::env::current_exe()) {
        let trial = Trial {
            settings: &config.runners,
            sandbox,
            executable: &executable,
            root,
            owner: "doctor",
            divides_processors: config.divides_processors(),
        };
        runners = Runners::tried(&trial, |remark| findings.push(finding(remark))).await;
    }
    runners.add_served(&config.runners, |remark| findings.push(finding(remark))).await;
    let served = [
        ("llm", runners.llm.as_ref().map(|llm| llm.models())),
        ("sd", runners.sd.as_ref().map(|sd| sd.models())),
    ];
    for (runner, models) in served {
        // One that did not answer is told of already.
        let is_told = findings.iter().any(|finding| finding.check == runner);
        let Some(models) = models.filter(|_| !is_told) else { continue };
        let names: Vec<_> = models.iter().map(ToString::to_string).collect();
        findings.push(if names.is_empty() {
            let fix = format!("load one, or name what it has in runners.{runner}.models");
            Finding::warn(runner, "the server has no model that is offered", fix)
        } else {
            Finding::ok(runner, names.join(", "))
        });
    }
    findings
}

fn finding(remark: Remark) -> Finding {
    let Remark { runner, state, what } = remark;
    match state {
        Standing::Works => Finding::ok(runner, what),
        Standing::Partly(fix) => Finding::warn(runner, what, fix),
        Standing::Fails(fix) => Finding::fail(runner, what, fix),
    }
}

/// Whether programs can really be run in the sandbox.
async fn sandbox(config: &Config, root: &Path) -> (Option<Sandbox>, Vec<Finding>) {
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(error) => {
            let fix = "install what is missing (Debian: apt install bubblewrap util-linux)";
            return (None, vec![Finding::fail("sandbox", error.to_string(), fix)]);
        }
    };
    let fix = namespaces::remedy(Path::new(namespaces::KERNEL));
    let fix = fix.unwrap_or_else(|| {
        "permit user namespaces; docs/sandbox.md says what is needed".to_owned()
    });
    let mut policy = config.sandbox_policy();
    policy.reached.extend(std::env::current_exe());
    let mut sandbox = match Sandbox::new(tools, &policy) {
        Ok(sandbox) => sandbox,
        Err(error) => return (None, vec![Finding::fail("sandbox", error.to_string(), fix)]),
    };
    let probed = sandbox.probe(&root.join("trial")).await;
    let works = probed.is_ok();
    let mut findings = vec![match probed {
        Ok(level) => Finding::ok("sandbox", format!("a trial program ran; level {level}")),
        Err(error @ Unavailable::Lacking { .. }) => {
            let fix = "do what it says, or take the part out of sandbox.require";
            Finding::fail("sandbox", error.to_string(), fix)
        }
        Err(error) => Finding::fail("sandbox", error.to_string(), fix),
    }];
    findings.extend(Piece::ALL.map(|piece| part(piece, sandbox.why_not(piece))));
    (works.then_some(sandbox), findings)
}

/// Whether a part of the isolation is in force, and what is there instead of it.
fn part(piece: Piece, why_not: Option<&str>) -> Finding {
    let (check, with, without, fix) = match piece {
        Piece::Seccomp => {
            ("syscalls", "filtered", "not filtered", "install a version that has the filter")
        }
        Piece::Cgroup => (
            "limits",
            "a control group for each job",
            "per process, and a look at the whole job now and then",
            "put Delegate=yes into the unit (by hand: systemd-run -p Delegate=yes miner-node run)",
        ),
        Piece::OwnUid => ("job user", "a user id for each job", "that of the node", ""),
    };
    match why_not {
        None => Finding::ok(check, with),
        // Not to be root is worth more than this part.
        Some(why) if piece == Piece::OwnUid => Finding::ok(check, format!("{without}: {why}")),
        Some(why) => Finding::warn(check, format!("{without}: {why}"), fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn what_is_less_than_it_could_be_says_how_to_get_more() {
        assert_eq!(part(Piece::Cgroup, None).status, Status::Ok);
        let finding = part(Piece::Cgroup, Some("version 2: there is none"));
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.detail.contains("there is none"));
        assert!(finding.fix.unwrap().contains("Delegate=yes"));
        assert_eq!(part(Piece::OwnUid, Some("not root")).status, Status::Ok);
    }

    #[tokio::test]
    async fn what_does_not_work_is_told_with_how_to_mend_it() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.runners.cli.allowlist_dir = root.path().to_owned();
        config.runners.python.venv = Some(root.path().join("no-venv"));
        config.runners.container.enable = true;
        config.runners.container.images = vec!["tiny:latest".to_owned()];
        config.runners.llm.enable = true;
        // Nobody listens on the port of a listener that is gone.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        config.runners.llm.url = format!("http://127.0.0.1:{port}").parse().unwrap();
        config.runners.sd.enable = true;
        config.runners.sd.api_auth_file = Some(root.path().join("no-file"));
        let findings = check(&config).await;
        let of = |check: &str| findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(of("sandbox").status, Status::Ok, "{findings:?}");
        for (check, status, fix) in [
            ("cli", Status::Warn, "allowlist.d"),
            ("python", Status::Fail, "python3 -m venv"),
            ("container", Status::Fail, "inspect"),
            ("llm", Status::Fail, "runners.llm.url"),
            ("sd", Status::Fail, "file"),
        ] {
            let finding = of(check);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.fix.as_ref().unwrap().contains(fix), "{finding:?}");
        }
    }
}
