//! Whether idle processors can mine as they are told to: pages for the dataset, a pool that answers,
//! XMRig where that is to mine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Finding;
use super::connection::first_that_answers;
use crate::config::mining::{EngineKind, Mining, PagesKind};

/// How long a pool may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a dataset with its cache takes of reserved pages, in MiB: 1168 of 2 MiB each.
const DATASET_MB: u64 = 2336;

/// Everything that mining needs; nothing where nothing is mined.
pub(super) async fn check(mining: &Mining) -> Vec<Finding> {
    if !mining.enabled {
        return Vec::new();
    }
    let mut findings = vec![match (mining.engine, &mining.xmrig.path) {
        (EngineKind::Native, _) => pages(mining.pages, Path::new("/")),
        (EngineKind::Xmrig, Some(path)) => xmrig(path),
        (EngineKind::Xmrig, None) => match xmrig_runs(mining).await {
            Some(finding) => finding,
            None => return findings_of_pools(mining).await,
        },
    }];
    findings.extend(findings_of_pools(mining).await);
    findings
}

/// Whether the dataset can lie on large pages.
fn pages(kind: PagesKind, root: &Path) -> Finding {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let transparent = read("sys/kernel/mm/transparent_hugepage/enabled");
    let is_off = transparent.contains("[never]") || transparent.is_empty();
    let slow = "hashes come at about 0.6 of the best rate";
    match kind {
        PagesKind::Thp if is_off => Finding::warn(
            "huge pages",
            format!("the kernel puts no large pages together; {slow}"),
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (and \
             transparent_hugepage=madvise on the kernel's command line to last), or \
             mining.pages: reserved",
        ),
        PagesKind::Thp => Finding::ok("huge pages", "put together by the kernel"),
        PagesKind::Surplus if !rustix::process::geteuid().is_root() => Finding::warn(
            "huge pages",
            format!("mining.pages: surplus needs root, and this is none; {slow}"),
            "mining.pages: thp, or reserved with sysctl -w vm.nr_hugepages=1280",
        ),
        PagesKind::Surplus => Finding::ok("huge pages", "permitted while something is mined"),
        PagesKind::Reserved => reserved(&read("proc/meminfo"), slow),
        PagesKind::Small => Finding::warn(
            "huge pages",
            format!("mining.pages is small; {slow}"),
            "mining.pages: thp",
        ),
    }
}

fn reserved(meminfo: &str, slow: &str) -> Finding {
    let number = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    // All, not those that are free: a node that mines has them.
    let all_mb = number("HugePages_Total:").saturating_mul(number("Hugepagesize:")) >> 10;
    if all_mb < DATASET_MB {
        return Finding::warn(
            "huge pages",
            format!("{all_mb} MiB are reserved, a dataset needs {DATASET_MB}; {slow}"),
            "sysctl -w vm.nr_hugepages=1280 (and into /etc/sysctl.d/ to last), or mining.pages: thp",
        );
    }
    Finding::ok("huge pages", format!("{all_mb} MiB are reserved"))
}

/// Whether the owner's XMRig can be started.
fn xmrig(path: &Path) -> Finding {
    match rustix::fs::access(path, rustix::fs::Access::EXEC_OK) {
        Ok(()) if path.is_file() => Finding::ok("xmrig", path.display().to_string()),
        Ok(()) => Finding::fail("xmrig", format!("{} is no file", path.display()), FIX_XMRIG),
        Err(error) => Finding::fail("xmrig", format!("{}: {error}", path.display()), FIX_XMRIG),
    }
}

const FIX_XMRIG: &str = "name the program in mining.xmrig.path, or set mining.engine: native";

/// Whether the one that is to run already does.
async fn xmrig_runs(mining: &Mining) -> Option<Finding> {
    let url = mining.xmrig.url.as_ref()?;
    let host = url.host().trim_matches(['[', ']']);
    Some(match first_that_answers(host, url.port(), PATIENCE).await {
        Ok(_) => Finding::ok("xmrig", format!("{url} answers")),
        Err(trouble) => Finding::fail(
            "xmrig",
            trouble.to_string(),
            "start XMRig with --http-enabled, or correct mining.xmrig.url",
        ),
    })
}

/// One is enough: the others are for when it is away.
async fn findings_of_pools(mining: &Mining) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut answered = false;
    for pool in &mining.pools {
        let address = match mining.checked(pool) {
            Ok(settings) => settings.address,
            Err(error) => {
                let fix = "correct mining.pools";
                findings.push(Finding::fail("pool", error.to_string(), fix));
                continue;
            }
        };
        findings.push(match first_that_answers(&address.host, address.port, PATIENCE).await {
            Ok(at) => {
                answered = true;
                Finding::ok("pool", format!("{address} is {at}, port open"))
            }
            Err(trouble) => Finding::warn(
                "pool",
                format!("{address}: {trouble}"),
                "correct mining.pools, or let egress to that port through the firewall",
            ),
        });
    }
    if let Err(error) = mining.pool_settings() {
        findings.push(Finding::fail("pool", error.to_string(), "correct mining.pools"));
    } else if !answered && !findings.is_empty() {
        let fix = "see above: without a pool nothing is mined";
        findings.push(Finding::fail("pool", "no pool can be reached", fix));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mining::Pool;
    use crate::doctor::Status;

    fn mining(urls: &[String]) -> Mining {
        let pool = |url: &String| -> Pool {
            let text = format!(r#"{{"url": "{url}", "user": "w"}}"#);
            serde_json::from_str(&text).unwrap()
        };
        Mining { enabled: true, pools: urls.iter().map(pool).collect(), ..Mining::default() }
    }

    /// A port at which somebody listens, and one at which nobody does.
    fn ports() -> (std::net::TcpListener, u16, u16) {
        let listener = std::net::TcpListener::bind("127.0.7.8:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let shut = std::net::TcpListener::bind("127.0.7.9:0").unwrap().local_addr().unwrap().port();
        (listener, open, shut)
    }

    #[test]
    fn pages_are_looked_for_as_the_owner_wants_them() {
        let root = tempfile::tempdir().unwrap();
        let told = |kind| pages(kind, root.path());
        assert_eq!(told(PagesKind::Thp).status, Status::Warn);
        let thp = root.path().join("sys/kernel/mm/transparent_hugepage");
        fs::create_dir_all(&thp).unwrap();
        for (text, status) in [
            ("always [madvise] never\n", Status::Ok),
            ("[always] madvise never\n", Status::Ok),
            ("always madvise [never]\n", Status::Warn),
        ] {
            fs::write(thp.join("enabled"), text).unwrap();
            assert_eq!(told(PagesKind::Thp).status, status, "{text}");
        }
        assert!(told(PagesKind::Reserved).detail.starts_with("0 MiB"));
        fs::create_dir_all(root.path().join("proc")).unwrap();
        for (pages, status) in [(1167, Status::Warn), (1168, Status::Ok)] {
            let text =
                format!("HugePages_Total: {pages}\nHugePages_Free: 0\nHugepagesize: 2048 kB\n");
            fs::write(root.path().join("proc/meminfo"), text).unwrap();
            assert_eq!(told(PagesKind::Reserved).status, status, "{pages}");
        }
        assert_eq!(told(PagesKind::Small).status, Status::Warn);
    }

    #[tokio::test]
    async fn one_pool_that_answers_is_enough() {
        let (_listener, open, shut) = ports();
        let there = format!("stratum+tcp://127.0.7.8:{open}");
        let away = format!("stratum+tcp://127.0.7.9:{shut}");
        let statuses = async |urls: &[String]| -> Vec<Status> {
            findings_of_pools(&mining(urls)).await.iter().map(|finding| finding.status).collect()
        };
        assert_eq!(statuses(std::slice::from_ref(&there)).await, [Status::Ok]);
        assert_eq!(statuses(&[away.clone(), there]).await, [Status::Warn, Status::Ok]);
        assert_eq!(statuses(&[away]).await, [Status::Warn, Status::Fail]);
    }

    #[tokio::test]
    async fn nothing_is_asked_of_those_who_do_not_mine() {
        assert!(check(&Mining::default()).await.is_empty());
    }

    #[test]
    fn xmrig_is_a_program() {
        assert_eq!(xmrig(Path::new("/bin/sh")).status, Status::Ok);
        for wrong in ["/nobody/has/this", "/usr", "/etc/passwd"] {
            assert_eq!(xmrig(Path::new(wrong)).status, Status::Fail, "{wrong}");
        }
    }
}
