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
        (SYS_ioctl, vec![rule(TERMINAL.map(|request| (1, SeccompCmpOp::Ne, request)))?]),
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
