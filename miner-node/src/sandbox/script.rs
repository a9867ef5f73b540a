//! Programs that tests make: scripts in the place of what a machine may not have.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program of `/bin/sh`, by another process: while this one has it open, any thread that
/// starts a program takes that along for a moment, in which the kernel runs no such file.
#[expect(clippy::disallowed_methods, reason = "writes a file, in a test")]
pub fn write(path: &Path, script: &str) {
    let mut install = Command::new("/usr/bin/install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    write!(install.stdin.take().unwrap(), "#!/bin/sh\n{script}\n").unwrap();
    assert!(install.wait().unwrap().success());
}
