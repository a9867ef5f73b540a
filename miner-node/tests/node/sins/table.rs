//! The sins: how each is committed outside, how it is tried inside, and what must come of it there.

/// A program with one sin.
pub struct Sin {
    /// Its file in `programs/`, without `.py`.
    pub program: &'static str,
    /// Its arguments where it is to succeed.
    pub outside: &'static [&'static str],
    /// Its arguments in the sandbox.
    pub inside: &'static [&'static str],
    /// A limit of the job besides the usual ones.
    pub limit: Option<(&'static str, u32)>,
    /// The artifact that the job declares.
    pub artifact: Option<&'static str>,
    /// What must come of it.
    pub verdict: Verdict,
}

/// What must come of a sin in the sandbox.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// The job fails with this code.
    Fails(&'static str),
    /// The job ends well, and each attempt was refused.
    Refused,
    /// The job ends well, and what it did is nobody's loss; what it left is gone.
    InVain,
}

use Verdict::{Fails, InVain, Refused};

const PLAIN: Sin =
    Sin { program: "", outside: &[], inside: &[], limit: None, artifact: None, verdict: Refused };

/// With the same arguments inside and outside.
const fn caller(program: &'static str, arguments: &'static [&'static str]) -> Sin {
    Sin { program, outside: arguments, inside: arguments, ..PLAIN }
}

/// A little of it outside, much of it inside.
const fn glutton(
    program: &'static str,
    outside: &'static [&'static str],
    inside: &'static [&'static str],
    code: &'static str,
) -> Sin {
    Sin { program, outside, inside, verdict: Fails(code), ..PLAIN }
}

/// An artifact that is none.
const fn link(kind: &'static [&'static str]) -> Sin {
    let verdict = Fails("E_OUTPUT");
    let artifact = Some("deep/x.bin");
    Sin { program: "links", outside: kind, inside: kind, artifact, verdict, ..PLAIN }
}

const fn within(sin: Sin, limit: &'static str, value: u32) -> Sin {
    Sin { limit: Some((limit, value)), ..sin }
}

/// All of them. What is `leaver look` comes when everybody else has gone.
pub static SINS: &[Sin] = &[
    // First, because it takes longest: it is asked, and killed after the grace time.
    within(glutton("deaf", &["100"], &["1000000"], "E_TIMEOUT"), "max_runtime_s", 1),
    within(glutton("sleeper", &["10"], &["1000000"], "E_TIMEOUT"), "max_runtime_s", 1),
    within(glutton("busy_loop", &["50"], &["1000000"], "E_TIMEOUT"), "cpu_secs", 1),
    glutton("memory_hog", &["16", "MARK"], &["4000", "MARK"], "E_OOM"),
    glutton("memory_family", &["16", "MARK"], &["640", "MARK"], "E_OOM"),
    glutton("disk_filler", &["2"], &["1000"], "E_OUTPUT"),
    glutton("many_files", &["2"], &["1000"], "E_OUTPUT"),
    glutton("endless_output", &["1"], &["1000"], "E_OUTPUT"),
    Sin { outside: &["1"], inside: &["300"], ..caller("memory_files", &[]) },
    Sin { outside: &["100", "MARK"], inside: &["4000", "MARK"], ..caller("fork_bomb", &[]) },
    Sin { verdict: InVain, ..caller("escapee", &["MARK"]) },
    link(&["symlink"]),
    link(&["parent"]),
    link(&["fifo"]),
    link(&["socket"]),
    link(&["directory"]),
    caller("readers", &["PID"]),
    caller("kernel_calls", &["MARK"]),
    caller("network", &["ADDRESS", "PORT", "PATH", "NAME"]),
    // `very-secret` is in the node's API key.
    Sin { outside: &[".", "terces-yrev"], ..caller("hunter", &["/", "terces-yrev"]) },
    caller("stdin_reader", &[]),
    Sin { verdict: InVain, ..caller("leaver", &["plant", "MARK"]) },
    caller("leaver", &["look", "MARK"]),
];

impl Sin {
    /// Its name in complaints.
    pub fn name(&self) -> String {
        format!("{} {}", self.program, self.inside.join(" "))
    }

    /// Whether it comes when all others have gone.
    pub fn is_last(&self) -> bool {
        self.inside.first() == Some(&"look")
    }
}

impl Verdict {
    /// Whether `outcome`, what was printed or how it failed, is what must come of it.
    pub fn holds(self, outcome: &Result<String, String>) -> Result<(), String> {
        let good = match (self, outcome) {
            (Fails(code), Err(error)) => error.split(' ').next() == Some(code),
            (Refused, Ok(text)) => {
                !text.is_empty() && text.lines().all(|line| line.starts_with("refused "))
            }
            (InVain, Ok(_)) => true,
            _ => false,
        };
        if good { Ok(()) } else { Err(format!("{self:?} was expected, not {outcome:?}")) }
    }
}
