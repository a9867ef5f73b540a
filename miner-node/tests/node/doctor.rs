//! The doctor on machines that really are broken: each fault is made, found, told with what mends
//! it, and the exit code says how bad it is.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::machine::Machine;
use crate::rig::Rig;

/// What the doctor found, by its exit code and what it printed.
struct Examined {
    code: i32,
    findings: Vec<Value>,
}

impl Examined {
    fn of(output: &Output) -> Self {
        let findings = serde_json::from_slice(&output.stdout);
        Self {
            code: output.status.code().unwrap(),
            findings: findings.unwrap_or_else(|error| panic!("{error}: {output:?}")),
        }
    }

    /// That a finding of `check` with `status` says `detail`, and that its way out says `fix`.
    #[track_caller]
    fn tells(&self, check: &str, status: &str, detail: &str, fix: &str) {
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("").to_owned();
        let told = self.findings.iter().any(|finding| {
            text(finding, "check") == check
                && text(finding, "status") == status
                && text(finding, "detail").contains(detail)
                && text(finding, "fix").contains(fix)
        });
        assert!(told, "{check} {status} {detail:?} {fix:?}: {:#?}", self.findings);
    }
}

fn examine(machine: &Machine) -> Examined {
    Examined::of(&machine.run(&["doctor", "--json"]))
}

/// On a machine that `script` breaks first, in namespaces of its own: nobody else sees of it.
fn examine_broken(machine: &Machine, script: &str) -> Examined {
    Examined::of(&machine.run_broken(&["doctor", "--json"], script))
}

#[test]
fn without_user_namespaces_the_switch_is_named() {
    let off = "echo 0 > /proc/sys/user/max_user_namespaces";
    // In such a namespace there are no users besides root.
    let machine = Machine::new().variable("AITBC_SANDBOX__UID_COUNT", "0");
    let examined = examine_broken(&machine, off);
    let fix = "user.max_user_namespaces is 0: sysctl -w";
    examined.tells("sandbox", "fail", "amespace", fix);
    assert_eq!(examined.code, 1);
}

#[test]
fn a_full_disk_is_no_matter_of_rights() {
    let machine = Machine::new();
    let work = machine.path("work");
    fs::create_dir(&work).unwrap();
    let full =
        format!("mount -t tmpfs -o size=64k,mode=700 none {work}\n! cat /dev/zero > {work}/full");
    let examined = examine_broken(&machine, &full);
    examined.tells("work dir", "fail", "No space left", "make room");
    examined.tells("disk", "fail", "0 MiB free", "workspace.min_free_mb");
    let read_only = format!("mount -t tmpfs -o ro,mode=700 none {work}");
    let examined = examine_broken(&machine, &read_only);
    examined.tells("work dir", "fail", "Read-only", "ReadWritePaths");
    let few = format!(
        "mount -t tmpfs -o size=2g,nr_inodes=3,mode=700 none {work}; touch {work}/a {work}/b"
    );
    let examined = examine_broken(&machine, &few);
    examined.tells("disk", "fail", "no more files", "df -i");
}

#[test]
fn a_gpu_whose_driver_is_broken_is_told_of() {
    let machine = Machine::new().nvidia_smi("echo 'Failed to initialize NVML'; exit 18");
    for (file, text) in [("vendor", "0x10de\n"), ("class", "0x030000\n")] {
        machine.write(&format!("pci/0000:01:00.0/{file}"), text, 0o644);
    }
    let there = format!("mount --bind {} /sys/bus/pci/devices", machine.path("pci"));
    let examined = examine_broken(&machine, &there);
    examined.tells("gpu", "warn", "0000:01:00.0 has no driver", "apt install nvidia-driver");
    let driver = machine.path("pci/0000:01:00.0/driver");
    std::os::unix::fs::symlink("/sys/bus/pci/drivers/nvidia", driver).unwrap();
    let examined = examine_broken(&machine, &there);
    examined.tells("gpu", "warn", "does not answer: nvidia-smi: exit status: 18", "reboot");
    let owner_s_choice = machine.variable("ACCEL_MODE", "cpu");
    let examined = examine_broken(&owner_s_choice, &there);
    examined.tells("gpu", "ok", "mode cpu", "");
}

#[test]
fn without_bubblewrap_its_package_is_named() {
    let gone = "mount --bind /dev/null /usr/bin/bwrap";
    let examined = examine_broken(&Machine::new(), gone);
    examined.tells("sandbox", "fail", "bwrap is not installed", "apt install bubblewrap");
}

#[test]
fn without_large_pages_hashes_come_slowly() {
    let machine = Machine::new();
    let settings = "mining: {enabled: true, pools: [{url: 'stratum+tcp://127.0.0.1:1', user: w}]}";
    machine.write("mine.yaml", settings, 0o600);
    machine.write("enabled", "always madvise [never]\n", 0o644);
    let page = "/sys/kernel/mm/transparent_hugepage/enabled";
    let never = format!(
        "mount --bind {} {page}\nset -- \"$@\" --config {}",
        machine.path("enabled"),
        machine.path("mine.yaml")
    );
    let examined = examine_broken(&machine, &never);
    examined.tells("huge pages", "warn", "0.6", "madvise");
    examined.tells("pool", "warn", "127.0.0.1:1", "firewall");
    examined.tells("pool", "fail", "no pool can be reached", "nothing is mined");
}

#[test]
fn what_others_can_read_or_change_is_told() {
    let machine = Machine::new();
    machine.write("miner.conf", "API_KEY=k1.very-secret\n", 0o644);
    machine.write("work/signing.key", &"07".repeat(32), 0o644);
    let examined = examine(&machine);
    examined.tells("config", "warn", "open to others (mode 644); run: chmod 600", "");
    examined.tells("signing key", "fail", "can be read by others", "chmod 600");
    assert_eq!(examined.code, 1);
}

#[test]
fn a_configuration_with_which_no_node_starts_ends_with_2() {
    let examined = examine(&Machine::new().conf("COORD_ULR=http://127.0.0.1:8080\n"));
    examined.tells("config", "fail", "unknown key COORD_ULR", "correct the name");
    examined.tells("config", "fail", "did you mean COORD_URL?", "");
    assert_eq!((examined.code, examined.findings.len()), (2, 1));
    let examined = examine(&Machine::new().conf("HEARTBEAT_SECS=soon\n"));
    examined.tells("config", "fail", "HEARTBEAT_SECS", "correct the value");
    assert_eq!(examined.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_should_be_looked_at_ends_with_3() {
    let rig = Rig::new().await;
    let url = rig.mock.url();
    let machine = Machine::new()
        .conf(&format!("COORD_URL={url}\nAPI_KEY=REPLACE_WITH_WALLET_API_KEY\nMINER_ID=rig7\n"))
        .variable("AITBC_WORKSPACE__MIN_FREE_MB", "1");
    let examined = examine(&machine);
    // The mock takes any key.
    examined.tells("config", "warn", "placeholder", "");
    examined.tells("network", "ok", "port open", "");
    examined.tells("key", "ok", "accepted", "");
    examined.tells("jobs", "ok", "will be registered at the first run", "");
    assert_eq!(examined.code, 3, "{:#?}", examined.findings);
}
