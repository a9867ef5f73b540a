//! Whether the sandbox really works here: a program is run in it.

use std::path::{Path, PathBuf};

use super::{
    Command, Ending, Interrupt, Isolation, Limits, Piece, Places, Sandbox, SandboxError,
    Unavailable,
};

/// What an owner can do who wants it nevertheless.
const ROOT_REMEDY: &str =
    "(docs/sandbox.md says what own user ids need; sandbox.uid_count: 0 has jobs run as root)";

impl Sandbox {
    /// Runs `true` in a sandbox below `directory` and says what was in force.
    ///
    /// # Errors
    /// Why it did not work, for the owner.
    ///
    /// Parts that turn out not to work here are left out, unless the owner insists on them.
    pub async fn probe(&mut self, directory: &Path) -> Result<Isolation, Unavailable> {
        let places = Places::below(directory);
        let tried = self.try_pieces(&places).await;
        // Left behind it is only clutter.
        let _ = std::fs::remove_dir_all(directory);
        tried.map_err(Unavailable::Refused)?;
        let isolation = self.isolation();
        match isolation.lacks(&self.required).first() {
            Some(piece) => Err(Unavailable::Lacking {
                piece: *piece,
                why: self.why_not(*piece).unwrap_or_default().to_owned(),
            }),
            None if self.would_share_root() => {
                let why = self.why_not(Piece::OwnUid).unwrap_or_default();
                Err(Unavailable::Refused(format!("jobs would run as root: {why} {ROOT_REMEDY}")))
            }
            None => Ok(isolation),
        }
    }

    /// Whether jobs would run as root although the owner set user ids apart for them.
    fn would_share_root(&self) -> bool {
        self.wants_users && self.users.is_err() && rustix::process::geteuid().is_root()
    }

    /// Leaves out the parts that do not work here; says why where nothing works.
    async fn try_pieces(&mut self, places: &Places) -> Result<(), String> {
        let Err(why) = self.works(places).await? else { return Ok(()) };
        let mut why = why;
        let lost = format!("a trial run under a user id of its own failed: {why}");
        let users = std::mem::replace(&mut self.users, Err(lost.clone()));
        if users.is_ok() {
            match self.works(places).await? {
                Ok(()) => return Ok(()),
                Err(still) => why = still,
            }
        }
        if self.cgroups.is_err() {
            self.users = users.or(Err(lost));
            return Err(why);
        }
        self.cgroups = Err(format!("a trial run in a control group failed: {why}"));
        // With users again: they may not have been to blame.
        let had_users = users.is_ok();
        self.users = users;
        match self.works(places).await? {
            Err(_) if had_users => self.users = Err(lost),
            other => return other,
        }
        self.works(places).await?
    }

    /// Whether a trial run works; inside, why the sandbox could not be set up. A failure of any
    /// other kind says nothing about its parts, and is the end of it where it comes twice.
    async fn works(&self, places: &Places) -> Result<Result<(), String>, String> {
        let mut outcome = self.try_true(places).await;
        if !matches!(outcome, Ok(Ending::Exited(0))) {
            outcome = self.try_true(places).await;
        }
        match outcome {
            Ok(Ending::Exited(0)) => Ok(Ok(())),
            Ok(ending) => Err(format!("the trial run ended: {ending:?}")),
            Err(SandboxError::Setup(why)) => Ok(Err(explain(&why))),
            Err(error) if self.users.is_ok() => Err(format!("{error} {ROOT_REMEDY}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn try_true(&self, places: &Places) -> Result<Ending, SandboxError> {
        for directory in [&places.work, &places.input] {
            // A trial before this one may have given it to another user.
            let _ = std::fs::remove_dir_all(directory);
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

#[cfg(test)]
mod tests;
