//! Why this machine lets nobody make user namespaces, without which there is no sandbox.

use std::fs;
use std::path::Path;

/// The settings of the running kernel.
pub(super) const KERNEL: &str = "/proc/sys";

/// A switch that can be in the way.
struct Switch {
    /// Where it stands.
    name: &'static str,
    /// Whether its number says no.
    says_no: fn(u64) -> bool,
    fix: &'static str,
}

const SWITCHES: [Switch; 3] = [
    Switch {
        name: "user/max_user_namespaces",
        says_no: |most| most == 0,
        fix: "sysctl -w user.max_user_namespaces=15000 (and into /etc/sysctl.d/ to last)",
    },
    Switch {
        name: "kernel/unprivileged_userns_clone",
        says_no: |on| on == 0,
        fix: "sysctl -w kernel.unprivileged_userns_clone=1 (and into /etc/sysctl.d/ to last)",
    },
    Switch {
        name: "kernel/apparmor_restrict_unprivileged_userns",
        says_no: |on| on != 0,
        fix: "give bubblewrap an AppArmor profile that permits userns, or \
              sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    },
];

/// The way out for the first switch below `root` that is in the way.
pub(super) fn remedy(root: &Path) -> Option<String> {
    SWITCHES.iter().find_map(|Switch { name, says_no, fix }| {
        let number = fs::read_to_string(root.join(name)).ok()?.trim().parse().ok()?;
        says_no(number).then(|| format!("{} is {number}: {fix}", name.replace('/', ".")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_is_in_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let set = |name: &str, value: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        };
        assert_eq!(remedy(root.path()), None);
        set("kernel/apparmor_restrict_unprivileged_userns", "1");
        assert!(remedy(root.path()).unwrap().contains("AppArmor"));
        set("kernel/unprivileged_userns_clone", "0");
        assert!(remedy(root.path()).unwrap().contains("unprivileged_userns_clone=1"));
        set("user/max_user_namespaces", "0");
        assert!(remedy(root.path()).unwrap().starts_with("user.max_user_namespaces is 0"));
        for (name, good) in [
            ("user/max_user_namespaces", "95000"),
            ("kernel/unprivileged_userns_clone", "1"),
            ("kernel/apparmor_restrict_unprivileged_userns", "0"),
        ] {
            set(name, good);
        }
        assert_eq!(remedy(root.path()), None);
    }
}
