//! The lists themselves; what they do to a program is seen in `tests/sins`.

use std::collections::BTreeSet;
use std::io::Read as _;

use libc::*;

use super::*;

/// What must be on no list, however the lists grow.
const NEVER: [c_long; 34] = [
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_fsopen,
    SYS_fsmount,
    SYS_open_tree,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    SYS_clone3,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_bpf,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_quotactl,
    SYS_acct,
    SYS_clock_settime,
    SYS_kexec_load,
    SYS_ioprio_set,
    SYS_io_setup,
];

fn unconditional() -> BTreeSet<c_long> {
    let lists = allowed::EVERYWHERE.iter().chain([&allowed::HERE]);
    lists.flat_map(|list| list.iter().copied()).collect()
}

#[test]
fn what_leads_out_is_on_no_list() {
    let allowed = unconditional();
    let conditional: Vec<_> = conditional::rules().unwrap().into_iter().map(|one| one.0).collect();
    for call in NEVER {
        assert!(!allowed.contains(&call) && !conditional.contains(&call), "{call}");
    }
}

#[test]
fn a_call_with_conditions_is_not_allowed_without() {
    let allowed = unconditional();
    for (call, rules) in conditional::rules().unwrap() {
        assert!(!allowed.contains(&call) && !rules.is_empty(), "{call}");
    }
    assert!(UNKNOWN.iter().all(|call| !allowed.contains(call)));
}

#[test]
fn nothing_is_listed_twice() {
    let lists = allowed::EVERYWHERE.iter().chain([&allowed::HERE]);
    assert_eq!(lists.map(|list| list.len()).sum::<usize>(), unconditional().len());
}

#[test]
fn every_run_reads_the_whole_program_from_its_beginning() {
    let filter = Filter::compile().unwrap();
    let read = |keeper| {
        let mut bytes = Vec::new();
        File::from(filter.open(keeper).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    for (keeper, unheard_of) in [
        (Keeper::Cgroup2, [].as_slice()),
        (Keeper::Cgroup1, [].as_slice()),
        (Keeper::Rlimits, UNCOUNTED.as_slice()),
    ] {
        let first = read(keeper);
        assert_eq!(first, read(keeper));
        assert_eq!(first.len(), program(unheard_of).unwrap().len() * 8);
    }
    assert_ne!(read(Keeper::Cgroup2), read(Keeper::Rlimits));
}

#[test]
fn what_is_in_force_cannot_be_changed() {
    use std::io::Write as _;
    let filter = Filter::compile().unwrap();
    let mut again = File::from(filter.program.try_clone().unwrap());
    assert!(again.write_all(b"x").is_err());
}
