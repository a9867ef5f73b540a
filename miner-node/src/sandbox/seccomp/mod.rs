//! The filter of system calls that every job runs under, as bubblewrap takes it: a compiled
//! program in sealed memory.
//!
//! What is allowed is in `allowed` and `conditional`; everything else is EPERM. A few calls are
//! answered as if the kernel were too old to know them, because programs then do without: `clone3`,
//! whose flags a filter cannot read, and calls too new to have been weighed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use libc::{
    SYS_clone3, SYS_io_cancel, SYS_io_destroy, SYS_io_getevents, SYS_io_setup, SYS_io_submit,
    SYS_memfd_create, SYS_shmget, c_long,
};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open};
use seccompiler::BpfProgram;

use super::Keeper;

mod allowed;
mod conditional;
mod program;
#[cfg(test)]
mod tests;

/// Answered as by a kernel that does not have them: `clone3`, `cachestat`, `map_shadow_stack`, the
/// `*xattrat` family and `file_getattr`, `file_setattr`. C libraries try these and fall back. So do
/// databases without the kernel's old asynchronous I/O, whose requests are out of a budget that the
/// whole machine shares (`fs.aio-max-nr`).
const UNKNOWN: [c_long; 14] = [
    SYS_clone3,
    SYS_io_cancel,
    SYS_io_destroy,
    SYS_io_getevents,
    SYS_io_setup,
    SYS_io_submit,
    451,
    453,
    463,
    464,
    465,
    466,
    468,
    469,
];

/// Memory that is no process's address space: unlimited where that is all that is limited.
const UNCOUNTED: [c_long; 2] = [SYS_memfd_create, SYS_shmget];

/// Is there where the kernel has filters.
const KERNEL_HAS_FILTERS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// The compiled filter.
#[derive(Debug)]
pub(super) struct Filter {
    program: OwnedFd,
    /// The same for jobs whose memory nothing counts but the limits of each process.
    strict: OwnedFd,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    /// The kernel has no filters.
    #[error("the kernel has no filters for system calls (CONFIG_SECCOMP_FILTER)")]
    Kernel,
    /// There is no list of calls for this processor, or it is too long.
    #[error("{0}")]
    Compile(#[from] seccompiler::BackendError),
    /// It could not be put into memory.
    #[error("memory for it: {0}")]
    Memory(#[from] io::Error),
}

impl Filter {
    /// Compiles the filter for this machine's processor.
    ///
    /// # Errors
    /// Where the kernel has no filters, there is no list for that processor, or no memory.
    pub(super) fn compile() -> Result<Self, FilterError> {
        if !std::path::Path::new(KERNEL_HAS_FILTERS).exists() {
            return Err(FilterError::Kernel);
        }
        Ok(Self { program: sealed(&program(&[])?)?, strict: sealed(&program(&UNCOUNTED)?)? })
    }

    /// A new descriptor of the program for jobs that `keeper` holds to their limits, at its beginning, for one run: bubblewrap reads it to its
    /// end.
    ///
    /// # Errors
    /// Where the process has too many open files.
    pub(super) fn open(&self, keeper: Keeper) -> io::Result<OwnedFd> {
        let program = match keeper {
            Keeper::Rlimits => &self.strict,
            Keeper::Cgroup1 | Keeper::Cgroup2 => &self.program,
        };
        // A duplicate would share its position with all others.
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// The program that knows nothing of `unheard_of` either.
fn program(unheard_of: &[c_long]) -> Result<BpfProgram, seccompiler::BackendError> {
    let lists = allowed::EVERYWHERE.iter().chain([&allowed::HERE]);
    let listed = lists.flat_map(|list| list.iter().copied());
    let allowed: Vec<c_long> = listed.filter(|call| !unheard_of.contains(call)).collect();
    program::program(&allowed, &[UNKNOWN.as_slice(), unheard_of].concat())
}

/// The program as the kernel has it (`struct sock_filter`), in memory that nobody can change any
/// more.
fn sealed(program: &BpfProgram) -> io::Result<OwnedFd> {
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|one| {
            let [low, high] = one.code.to_ne_bytes();
            let [a, b, c, d] = one.k.to_ne_bytes();
            [low, high, one.jt, one.jf, a, b, c, d]
        })
        .collect();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("job-syscalls", flags)?);
    file.write_all(&bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
