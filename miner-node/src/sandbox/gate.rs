//! Where bubblewrap's child waits until its limits are in force.
//!
//! bubblewrap has no end of file in mind: it would start the program as well. A node that dies
//! before it has set the limits must not set a job free, so the child's own descriptor keeps the
//! pipe open for writing: without the byte it waits for ever, and the next life of the node ends it.

use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// The node's side of the gate.
#[derive(Debug)]
pub(super) struct Gate(PipeWriter);

impl Gate {
    /// A closed gate, and the descriptor to wait at.
    pub(super) fn closed() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let waiting = File::options().read(true).write(true).open(path)?;
        Ok((Self(writer), waiting.into()))
    }

    /// Opens it.
    pub(super) fn open(mut self) -> io::Result<()> {
        self.0.write_all(&[1])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::thread;

    use super::*;

    #[test]
    fn an_open_gate_lets_one_through() {
        let (gate, waiting) = Gate::closed().unwrap();
        gate.open().unwrap();
        let mut byte = [0];
        File::from(waiting).read_exact(&mut byte).unwrap();
        assert_eq!(byte, [1]);
    }

    #[test]
    fn a_gate_that_is_gone_stays_closed() {
        let (gate, waiting) = Gate::closed().unwrap();
        drop(gate);
        let mut own = File::from(waiting);
        let mut other = own.try_clone().unwrap();
        let waiter = thread::spawn(move || {
            let mut byte = [0];
            let read = own.read(&mut byte).unwrap();
            (read, byte)
        });
        // The end of the pipe would have been read as nothing at all.
        other.write_all(&[2]).unwrap();
        assert_eq!(waiter.join().unwrap(), (1, [2]));
    }
}
