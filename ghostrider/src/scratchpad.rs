//! Memory to hash in, on huge pages where the system has them.

use std::vec;
use std::vec::Vec;

use crate::cryptonight::Block;

/// A huge page of x86-64 and of most 64-bit Arm systems, in bytes.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory for CryptoNight: zeroed, aligned to 2 MiB and, on Linux, marked for transparent huge
/// pages before it is first touched. Without them, every access to memory pays for a page walk.
pub struct Scratchpad {
    /// One huge page more than asked for, so that an aligned start is in it.
    memory: Vec<Block>,
    first: usize,
    blocks: usize,
}

impl Scratchpad {
    /// At least so many bytes, rounded up to huge pages. What is never hashed in is never touched,
    /// and so takes no memory.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let blocks = bytes.next_multiple_of(HUGE_PAGE_BYTES) / size_of::<Block>();
        let mut memory = vec![[0; 16]; blocks + HUGE_PAGE_BYTES / size_of::<Block>()];
        let unaligned = memory.as_ptr().addr() % HUGE_PAGE_BYTES;
        // An allocation starts at a multiple of 16 bytes; if not, only the alignment is lost.
        let first = (HUGE_PAGE_BYTES - unaligned) % HUGE_PAGE_BYTES / size_of::<Block>();
        ask_for_huge_pages(&mut memory[first..first + blocks]);
        Self { memory, first, blocks }
    }

    /// The memory.
    pub fn blocks(&mut self) -> &mut [Block] {
        &mut self.memory[self.first..self.first + self.blocks]
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.blocks * size_of::<Block>()
    }
}

#[cfg(target_os = "linux")]
fn ask_for_huge_pages(memory: &mut [Block]) {
    // A refusal (a kernel without huge pages) costs speed only.
    // SAFETY: the range is allocated, and this advice changes no byte of it.
    #[expect(unsafe_code, reason = "the system call takes a pointer")]
    let _ = unsafe {
        rustix::mm::madvise(
            memory.as_mut_ptr().cast(),
            size_of_val(memory),
            rustix::mm::Advice::LinuxHugepage,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_memory: &mut [Block]) {}
