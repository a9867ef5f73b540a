//! The filter as one program for the kernel: numbers first, arguments after.
//!
//! seccompiler compares call by call, and the kernel tries a filter with every call there is when it
//! is put in force: a list as long as ours took longer than all else of a start. So what is decided
//! by its number alone is decided by ranges of numbers, in front of what seccompiler makes of the
//! calls whose arguments decide.

use libc::{ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter,
};

use super::conditional;

/// Where `struct seccomp_data` has the number of the call and the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Instructions of classic BPF: load a word, jump if equal, greater or equal, greater, return.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ABOVE: u16 = 0x25;
const RETURN: u16 = 0x06;

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;

/// The program: `allowed` calls are, of `unknown` calls the kernel knows nothing, the arguments of
/// [`conditional::rules`] decide, and everything else is EPERM.
///
/// # Errors
/// For a processor that has no lists.
pub(super) fn program(allowed: &[c_long], unknown: &[c_long]) -> Result<BpfProgram, BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(EPERM.unsigned_abs());
    let rules = conditional::rules()?.into_iter().collect();
    let rest: BpfProgram =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?;
    let number = match arch {
        TargetArch::x86_64 => X86_64,
        TargetArch::aarch64 => AARCH64,
        TargetArch::riscv64 => return Err(BackendError::InvalidTargetArch("riscv64".to_owned())),
    };
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        // A program of another architecture is killed, which seccompiler does at its own beginning.
        instruction(IF_EQUAL, 1, 0, number),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    let unheard_of = SECCOMP_RET_ERRNO | ENOSYS.unsigned_abs();
    for (calls, answer) in [(allowed, SECCOMP_RET_ALLOW), (unknown, unheard_of)] {
        for (first, last) in ranges(calls) {
            program.extend([
                instruction(IF_ABOVE, 2, 0, last),
                instruction(IF_AT_LEAST, 0, 1, first),
                instruction(RETURN, 0, 0, answer),
            ]);
        }
    }
    program.extend(rest);
    Ok(program)
}

const fn instruction(code: u16, if_true: u8, if_false: u8, value: u32) -> sock_filter {
    sock_filter { code, jt: if_true, jf: if_false, k: value }
}

/// Neighbouring numbers put together, in order.
fn ranges(calls: &[c_long]) -> Vec<(u32, u32)> {
    let mut numbers: Vec<u32> = calls.iter().filter_map(|call| u32::try_from(*call).ok()).collect();
    numbers.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        assert_eq!(ranges(&[7, 1, 2, 3, 9, 8, 2]), [(1, 3), (7, 9)]);
        assert_eq!(ranges(&[]), []);
    }

    /// What the part in front answers to a call; `None`: it leaves it to the rest.
    fn answer(program: &[sock_filter], call: u32) -> Option<u32> {
        let mut at = 4;
        while program[at].code == IF_ABOVE {
            let within = call <= program[at].k && call >= program[at + 1].k;
            if within {
                return Some(program[at + 2].k);
            }
            at += 3;
        }
        None
    }

    #[test]
    fn each_number_has_the_answer_of_its_list() {
        let program = program(&[0, 1, 2, 5, 300], &[435, 463, 464]).unwrap();
        for call in 0..600 {
            let expected = match call {
                0..=2 | 5 | 300 => Some(SECCOMP_RET_ALLOW),
                435 | 463 | 464 => Some(SECCOMP_RET_ERRNO | ENOSYS.unsigned_abs()),
                _ => None,
            };
            assert_eq!(answer(&program, call), expected, "{call}");
        }
        // The other numbers of the processor's calls (x32) are on no list.
        assert_eq!(answer(&program, 0x4000_0000), None);
    }
}
