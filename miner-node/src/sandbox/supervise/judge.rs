//! From what is known of a run that is over to its one ending. Pure but for a look at what the
//! program said last.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::super::Ending;

/// Signals that stand for a limit: processor time and file size.
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// Of standard error, the end that is looked at, in bytes.
const LAST_WORDS: u64 = 4096;

/// What programs say when they are refused memory: Python, C++, Rust, Node.js, the C library,
/// GNU's tools.
const NO_MEMORY: [&str; 7] = [
    "MemoryError",
    "std::bad_alloc",
    "memory allocation of ",
    "out of memory",
    "Cannot allocate memory",
    "Out of memory",
    "memory exhausted",
];

/// What the exit code says. bubblewrap passes 128 + n on for a program that signal n ended.
pub(super) fn natural(code: i32) -> Ending {
    match code - 128 {
        SIGXCPU => Ending::CpuLimit,
        SIGXFSZ => Ending::OutputLimit,
        signal @ 1..=64 => Ending::Signaled(signal),
        _ => Ending::Exited(code),
    }
}

/// Whether a program that failed says that it was refused memory. This is all there is to go by
/// where the kernel limits the address space of each process: it kills nobody for that.
pub(super) fn was_refused_memory(ending: Ending, stderr: &Path) -> bool {
    match ending {
        Ending::Exited(0) => false,
        Ending::Exited(_) | Ending::Signaled(_) => {
            let words = last_words(stderr);
            NO_MEMORY.iter().any(|text| words.contains(text))
        }
        _ => false,
    }
}

/// What bubblewrap wrote before it gave up.
pub(super) fn complaint(stderr: &Path) -> String {
    let text = last_words(stderr);
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.trim().to_owned(),
        None => "bwrap ended without a word".to_owned(),
    }
}

fn last_words(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(LAST_WORDS);
        file.seek(SeekFrom::Start(start))?;
        let mut words = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut words)?;
        Ok(words)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_above_128_are_signals() {
        for (code, ending) in [
            (0, Ending::Exited(0)),
            (128, Ending::Exited(128)),
            (139, Ending::Signaled(11)),
            (152, Ending::CpuLimit),
            (153, Ending::OutputLimit),
            (255, Ending::Exited(255)),
        ] {
            assert_eq!(natural(code), ending);
        }
    }

    #[test]
    fn only_who_failed_and_says_so_was_refused_memory() {
        let directory = tempfile::tempdir().unwrap();
        let stderr = directory.path().join("stderr");
        let long = format!("{}\nTraceback:\nMemoryError\n", "x".repeat(10_000));
        std::fs::write(&stderr, long).unwrap();
        assert!(was_refused_memory(Ending::Exited(1), &stderr));
        assert!(!was_refused_memory(Ending::Exited(0), &stderr));
        assert!(!was_refused_memory(Ending::TimedOut, &stderr));
        std::fs::write(&stderr, "no such file\n").unwrap();
        assert!(!was_refused_memory(Ending::Signaled(6), &stderr));
        assert_eq!(complaint(&stderr), "no such file");
    }
}
