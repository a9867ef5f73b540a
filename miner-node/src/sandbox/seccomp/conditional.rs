//! The system calls whose arguments decide. Only what stands in registers can be looked at: what a
//! pointer points to may change after the look, which is why `clone3` is refused altogether.
//!
//! Arguments that the kernel takes as 32 bits are compared as 32 bits: a comparison of all 64 could
//! be passed by setting bits that the kernel then ignores (CVE-2019-10063).

use libc::*;
use seccompiler::{
    BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition as Condition,
    SeccompRule as Rule,
};

/// A system call, and the rules of which one has to hold.
pub(super) type Conditional = (c_long, Vec<Rule>);

/// Flags of `clone` that make namespaces.
const NAMESPACES: c_int = CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET;

/// What `personality` takes as a question.
const ASK: c_int = -1;

/// The part of a socket's type that is no flag.
const SOCKET_TYPE: u64 = 0xf;

/// `ioctl`s that put characters into another program's terminal, take over the console's messages,
/// change the line discipline, or, on a text console, do all of that.
const TERMINAL: [u64; 4] = [TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD];

/// The part of an `ioctl`'s number that says whose it is.
const OWNER: u64 = 0xff00;

/// That of the terminal's.
const TERMINALS: u64 = 0x54;

/// Those of file systems' own (btrfs; ext's attributes and those of others; XFS): quotas, snapshots,
/// files that cannot be removed. Most of them need no capability where one owns the file.
const FILE_SYSTEMS: [u64; 3] = [0x94, 0x66, 0x58];

/// Of these, the ones that only share blocks between files: FICLONE, FICLONERANGE, FIDEDUPERANGE.
const CLONES: [u64; 3] = [0x4004_9409, 0x4020_940d, 0xc018_9436];

#[expect(clippy::cast_sign_loss, reason = "bits, not numbers")]
const fn bits(value: c_int) -> u64 {
    value as u32 as u64
}

/// All of them.
pub(super) fn rules() -> Result<Vec<Conditional>, BackendError> {
    let mut rules = vec![
        // Processes and threads, but no namespaces.
        (SYS_clone, vec![rule([(0, SeccompCmpOp::MaskedEq(bits(NAMESPACES)), 0)])?]),
        // Nothing that makes executable what is only readable, or old bugs reachable.
        (SYS_personality, vec![equal(&[(0, 0)])?, equal(&[(0, bits(ASK))])?]),
        (SYS_ioctl, requests()?),
        // Pipes and plain files; devices need a capability besides.
        (SYS_mknodat, kinds(2)?),
        (SYS_socketpair, vec![equal(&[(0, bits(AF_UNIX))])?]),
        (SYS_socket, sockets()?),
    ];
    #[cfg(target_arch = "x86_64")]
    rules.push((SYS_mknod, kinds(1)?));
    Ok(rules)
}

/// Streams and datagrams over IP, and sockets that have a path. No raw sockets, no other families:
/// netlink, vsock and the rest lead to the host or to seldom used parts of the kernel.
fn sockets() -> Result<Vec<Rule>, BackendError> {
    let of_type = |family: c_int, kind: c_int| {
        vec![
            (0, SeccompCmpOp::Eq, bits(family)),
            (1, SeccompCmpOp::MaskedEq(SOCKET_TYPE), bits(kind)),
        ]
    };
    let unix = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].map(|kind| of_type(AF_UNIX, kind));
    let mut rules: Vec<_> = unix.into_iter().map(rule).collect::<Result<_, _>>()?;
    for family in [AF_INET, AF_INET6] {
        for (kind, protocol) in [(SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, IPPROTO_UDP)] {
            for protocol in [IPPROTO_IP, protocol] {
                let mut conditions = of_type(family, kind);
                conditions.push((2, SeccompCmpOp::Eq, bits(protocol)));
                rules.push(rule(conditions)?);
            }
        }
    }
    Ok(rules)
}

/// Every `ioctl` but those of file systems, and of the terminal's all but [`TERMINAL`].
fn requests() -> Result<Vec<Rule>, BackendError> {
    let mut rules = Vec::new();
    for (mask, owner) in without(&FILE_SYSTEMS) {
        let mut conditions = vec![(1, SeccompCmpOp::MaskedEq(mask << 8), owner << 8)];
        if TERMINALS & mask == owner {
            conditions.extend(TERMINAL.map(|request| (1, SeccompCmpOp::Ne, request)));
        }
        rules.push(rule(conditions)?);
    }
    for request in CLONES {
        rules.push(equal(&[(1, request)])?);
    }
    Ok(rules)
}

/// All bytes but `refused`, as masks and what is left under them: filters can say that some bits are
/// equal, but not that they differ.
fn without(refused: &[u64]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut open = vec![(0_u64, 0_u64)];
    while let Some((mask, value)) = open.pop() {
        if refused.iter().all(|byte| byte & mask != value) {
            found.push((mask, value));
        } else if mask < OWNER >> 8 {
            let next = mask >> 1 | 0x80;
            open.extend([(next, value), (next, value | (next ^ mask))]);
        }
    }
    found
}

/// For a call whose argument number `mode` names the kind of file that it makes.
fn kinds(mode: u8) -> Result<Vec<Rule>, BackendError> {
    [0, S_IFREG, S_IFIFO]
        .map(|kind| rule([(mode, SeccompCmpOp::MaskedEq(S_IFMT.into()), kind.into())]))
        .into_iter()
        .collect()
}

fn equal(arguments: &[(u8, u64)]) -> Result<Rule, BackendError> {
    rule(arguments.iter().map(|(index, value)| (*index, SeccompCmpOp::Eq, *value)))
}

/// All of these conditions: the argument's index, the comparison, the value.
fn rule(
    conditions: impl IntoIterator<Item = (u8, SeccompCmpOp, u64)>,
) -> Result<Rule, BackendError> {
    let conditions = conditions.into_iter().map(|(index, operator, value)| {
        Condition::new(index, SeccompCmpArgLen::Dword, operator, value)
    });
    Rule::new(conditions.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_those_is_under_one_mask() {
        let masks = without(&FILE_SYSTEMS);
        for byte in 0..=0xff {
            let fitting = masks.iter().filter(|(mask, value)| byte & mask == *value).count();
            assert_eq!(fitting, usize::from(!FILE_SYSTEMS.contains(&byte)), "{byte:#x}");
        }
        assert!(TERMINAL.iter().all(|request| (request & OWNER) >> 8 == TERMINALS));
        assert!(CLONES.iter().all(|request| request & OWNER == 0x9400));
    }
}
