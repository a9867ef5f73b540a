//! The system calls that jobs may make, whatever their arguments, and why. What is not here, and
//! not in `conditional`, is answered with EPERM.
//!
//! Left out on purpose: tracing and reading other processes (ptrace, process_vm_*, pidfd_getfd,
//! kcmp), every way to mount or to change namespaces, keys, bpf, io_uring, perf events,
//! userfaultfd, modules, kexec, reboot, swap, quotas, accounting, clocks, ports, file handles, the
//! kernel's log, memory policies, new filters by `seccomp`, `vmsplice`, `remap_file_pages`,
//! `modify_ldt`; `sync` and `syncfs`, which make the whole host wait for its disks; and
//! `sched_setaffinity`, with which a job could undo the owner's choice of processors.

use libc::*;

/// For every architecture.
pub(super) const EVERYWHERE: &[&[c_long]] = &[
    FILES,
    NAMES,
    DESCRIPTORS,
    WAITING,
    MEMORY,
    PROCESSES,
    IDENTITY,
    SIGNALS,
    TIME,
    THREADS,
    SOCKETS,
    IPC,
    ABOUT,
];

/// Open files: reading, writing, moving bytes between them.
const FILES: &[c_long] = &[
    SYS_close,
    SYS_close_range,
    SYS_copy_file_range,
    SYS_fadvise64,
    SYS_fallocate,
    SYS_fdatasync,
    SYS_flock,
    SYS_fsync,
    SYS_ftruncate,
    SYS_getdents64,
    SYS_lseek,
    SYS_openat,
    SYS_openat2,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_read,
    SYS_readahead,
    SYS_readv,
    SYS_sendfile,
    SYS_splice,
    SYS_sync_file_range,
    SYS_tee,
    SYS_write,
    SYS_writev,
];

/// Names of files and what is known about them. Who may is the file system's business.
const NAMES: &[c_long] = &[
    SYS_chdir,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fchdir,
    SYS_fchmod,
    SYS_fchmodat,
    FCHMODAT2,
    SYS_fchown,
    SYS_fchownat,
    SYS_fgetxattr,
    SYS_flistxattr,
    SYS_fremovexattr,
    SYS_fsetxattr,
    SYS_fstat,
    SYS_fstatfs,
    SYS_getcwd,
    SYS_getxattr,
    SYS_lgetxattr,
    SYS_linkat,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_lremovexattr,
    SYS_lsetxattr,
    SYS_mkdirat,
    SYS_newfstatat,
    SYS_readlinkat,
    SYS_removexattr,
    SYS_renameat2,
    SYS_setxattr,
    SYS_statfs,
    SYS_statx,
    SYS_symlinkat,
    SYS_truncate,
    SYS_umask,
    SYS_unlinkat,
    SYS_utimensat,
];

/// Descriptors that are no files.
const DESCRIPTORS: &[c_long] = &[
    SYS_dup,
    SYS_dup3,
    SYS_eventfd2,
    SYS_fcntl,
    SYS_inotify_add_watch,
    SYS_inotify_init1,
    SYS_inotify_rm_watch,
    SYS_memfd_create,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_pipe2,
    SYS_signalfd4,
    SYS_timerfd_create,
    SYS_timerfd_gettime,
    SYS_timerfd_settime,
];

/// Waiting for many descriptors.
const WAITING: &[c_long] =
    &[SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_ppoll, SYS_pselect6];

/// A process's own memory. `mprotect` to executable stays: whatever compiles at run time (wasmtime,
/// Python's ctypes, CUDA) needs it.
const MEMORY: &[c_long] = &[
    SYS_brk,
    SYS_get_mempolicy,
    SYS_madvise,
    SYS_membarrier,
    SYS_mincore,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_mseal,
    SYS_msync,
    SYS_munlock,
    SYS_munlockall,
    SYS_munmap,
    SYS_pkey_alloc,
    SYS_pkey_free,
    SYS_pkey_mprotect,
];

/// Starting and ending programs. `clone` is conditional. `prctl` stays whole: a filter that a job
/// adds by it can only forbid more.
const PROCESSES: &[c_long] = &[
    SYS_execve,
    SYS_execveat,
    SYS_exit,
    SYS_exit_group,
    SYS_getpgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getsid,
    SYS_prctl,
    SYS_prlimit64,
    SYS_setpgid,
    SYS_setsid,
    SYS_wait4,
    SYS_waitid,
];

/// Who one is. All capabilities are dropped, so that nothing is to be gained; programs that give up
/// what they do not have must not fail over it.
const IDENTITY: &[c_long] = &[
    SYS_capget,
    SYS_capset,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getgroups,
    SYS_getresgid,
    SYS_getresuid,
    SYS_getuid,
    SYS_landlock_add_rule,
    SYS_landlock_create_ruleset,
    SYS_landlock_restrict_self,
    SYS_setfsgid,
    SYS_setfsuid,
    SYS_setgid,
    SYS_setgroups,
    SYS_setregid,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setreuid,
    SYS_setuid,
];

/// Signals, which reach no further than the job's own pid namespace.
const SIGNALS: &[c_long] = &[
    SYS_kill,
    SYS_restart_syscall,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigqueueinfo,
    SYS_rt_sigreturn,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_rt_tgsigqueueinfo,
    SYS_sigaltstack,
    SYS_tgkill,
    SYS_tkill,
];

/// Reading clocks, sleeping, timers.
const TIME: &[c_long] = &[
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getitimer,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_setitimer,
    SYS_timer_create,
    SYS_timer_delete,
    SYS_timer_getoverrun,
    SYS_timer_gettime,
    SYS_timer_settime,
    SYS_times,
];

/// Threads and how they are scheduled; priorities can only be lowered, and the turn at the disk, which
/// would let a job set itself above the owner's programs, not at all.
const THREADS: &[c_long] = &[
    FUTEX_WAKE,
    FUTEX_WAIT,
    FUTEX_REQUEUE,
    SYS_futex,
    SYS_futex_waitv,
    SYS_get_robust_list,
    SYS_getcpu,
    SYS_getpriority,
    SYS_gettid,
    SYS_ioprio_get,
    SYS_rseq,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_getaffinity,
    SYS_sched_getattr,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_rr_get_interval,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_setpriority,
];

/// Sockets once they are made; which can be made is conditional, and in the job's network namespace
/// there is nobody but the job.
const SOCKETS: &[c_long] = &[
    SYS_accept,
    SYS_accept4,
    SYS_bind,
    SYS_connect,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_listen,
    SYS_recvfrom,
    SYS_recvmmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_sendmsg,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
];

/// System V and POSIX queues, semaphores and memory, of the job's own ipc namespace.
const IPC: &[c_long] = &[
    SYS_mq_getsetattr,
    SYS_mq_notify,
    SYS_mq_open,
    SYS_mq_timedreceive,
    SYS_mq_timedsend,
    SYS_mq_unlink,
    SYS_msgctl,
    SYS_msgget,
    SYS_msgrcv,
    SYS_msgsnd,
    SYS_semctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_shmat,
    SYS_shmctl,
    SYS_shmdt,
    SYS_shmget,
];

/// Questions about oneself and the machine, and random numbers.
const ABOUT: &[c_long] = &[SYS_getrandom, SYS_getrusage, SYS_sysinfo, SYS_uname];

// Not known to every libc yet. The same numbers everywhere, as for every call since 424.
const FCHMODAT2: c_long = 452;
const FUTEX_WAKE: c_long = 454;
const FUTEX_WAIT: c_long = 455;
const FUTEX_REQUEUE: c_long = 456;

/// Calls that newer architectures left out for the sake of others above.
#[cfg(target_arch = "x86_64")]
pub(super) const HERE: &[c_long] = &[
    SYS_access,
    SYS_alarm,
    SYS_arch_prctl,
    SYS_chmod,
    SYS_chown,
    SYS_creat,
    SYS_dup2,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_fork,
    SYS_futimesat,
    SYS_getdents,
    SYS_getpgrp,
    SYS_getrlimit,
    SYS_inotify_init,
    SYS_lchown,
    SYS_link,
    SYS_lstat,
    SYS_mkdir,
    SYS_open,
    SYS_pause,
    SYS_pipe,
    SYS_poll,
    SYS_readlink,
    SYS_rename,
    SYS_renameat,
    SYS_rmdir,
    SYS_select,
    SYS_setrlimit,
    SYS_signalfd,
    SYS_stat,
    SYS_symlink,
    SYS_time,
    SYS_unlink,
    SYS_utime,
    SYS_utimes,
    SYS_vfork,
];

/// Calls that this architecture has besides.
#[cfg(target_arch = "aarch64")]
pub(super) const HERE: &[c_long] = &[SYS_getrlimit, SYS_renameat, SYS_setrlimit];

/// No filter is made for others.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const HERE: &[c_long] = &[];
