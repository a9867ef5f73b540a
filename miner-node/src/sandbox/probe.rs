//! Whether the sandbox really works here: a program is run in it.

use std::path::{Path, PathBuf};

use super::{
    Command, Ending, Interrupt, Isolation, Limits, Places, Sandbox, SandboxError, Unavailable,
};

impl Sandbox {
    /// Runs `true` in a sandbox below `directory` and says what was in force.
    ///
    /// # Errors
    /// Why it did not work, for the owner.
    /// Parts that turn out not to work here are left out, unless the owner insists on them.
    pub async fn probe(&mut self, directory: &Path) -> Result<Isolation, Unavailable> {
        let places = Places::below(directory);
        let outcome = loop {
            let outcome = self.try_true(&places).await;
            // Left behind it is only clutter.
            let _ = std::fs::remove_dir_all(directory);
            let why = match outcome {
                Ok(Ending::Exited(0)) => break Ok(self.isolation()),
                Ok(ending) => format!("the trial run ended: {ending:?}"),
                Err(SandboxError::Setup(why)) => explain(&why),
                Err(error) => error.to_string(),
            };
            if !self.do_without(&why) {
                break Err(Unavailable::Refused(why));
            }
        };
        let isolation = outcome?;
        match isolation.lacks(&self.required).first() {
            Some(piece) => Err(Unavailable::Lacking {
                piece: *piece,
                why: self.why_not(*piece).unwrap_or_default().to_owned(),
            }),
            None => Ok(isolation),
        }
    }

    /// Leaves out the next part that may be to blame for a trial run that failed; `false` where
    /// none is left.
    fn do_without(&mut self, why: &str) -> bool {
        if self.users.is_ok() {
            self.users = Err(format!("a trial run under a user id of its own failed: {why}"));
        } else if self.cgroups.is_ok() {
            self.cgroups = Err(format!("a trial run in a control group failed: {why}"));
        } else {
            return false;
        }
        true
    }

    async fn try_true(&self, places: &Places) -> Result<Ending, SandboxError> {
        for directory in [&places.work, &places.input] {
            std::fs::create_dir_all(directory).map_err(SandboxError::io("trial directory"))?;
        }
        let program = ["/usr/bin/true", "/bin/true"].iter().find(|path| Path::new(path).is_file());
        let command = Command {
            program: PathBuf::from(program.unwrap_or(&"/usr/bin/true")),
            args: Vec::new(),
            env: Vec::new(),
            shown: Vec::new(),
            limits: Limits::trial(),
        };
        Ok(self.run(&command, places, &Interrupt::default()).await?.ending)
    }
}

/// What bubblewrap said, and what an owner can do about it.
fn explain(why: &str) -> String {
    let hint = if why.contains("disable-userns") && why.contains("nknown option") {
        " (bubblewrap 0.8 or later is needed)"
    } else if why.contains("ermission denied") || why.contains("not permitted") {
        " (unprivileged user namespaces are switched off: see sysctl kernel.unprivileged_userns_clone \
         and kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp profile)"
    } else {
        ""
    };
    format!("{}{hint}", why.trim())
}
