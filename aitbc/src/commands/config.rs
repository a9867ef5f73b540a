//! `aitbc config`: the profile file, and what of it counts.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::or_dash;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::profile::{self, Choice, ProfileError, Profiles};

/// Shows or changes the profile file.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Which coordinator and key count, and where they come from; never the key
    Show,
    /// Change a profile, or make it: `aitbc config set market url=https://..  key_file=market.key`
    Set(Set),
}

/// Changes a profile.
#[derive(Debug, Args)]
pub struct Set {
    /// The profile
    name: String,
    /// url, key_file, ca_file, client_cert_file, allow_insecure, coordinator_keys (by commas), or
    /// key=- to read the key from standard input; an empty value takes it away
    #[arg(value_name = "KEY=VALUE")]
    changes: Vec<String>,
    /// Let it be the one that counts where none is named
    #[arg(long)]
    default: bool,
}

impl Config {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run(self, choice: Choice, output: Output) -> Result<Ending, Failure> {
        match self {
            Self::Show => show(choice, output),
            Self::Set(set) => set.run(choice),
        }
    }
}

fn show(choice: Choice, output: Output) -> Result<Ending, Failure> {
    let file = choice.file.clone().or_else(profile::usual_file);
    let file = file.filter(|file| file.exists()).map(|file| file.display().to_string());
    let settings = profile::settle(choice)?;
    if output.json {
        let shown = json!({
            "file": file, "profile": settings.profile, "url": settings.url.to_string(),
            "key_from": settings.key_origin, "has_key": settings.key.is_some(),
            "ca_file": settings.ca_file, "client_cert_file": settings.client_cert_file,
            "coordinator_keys": settings.coordinator_keys,
        });
        output.line(&shown.to_string())?;
        return Ok(Ending::Done);
    }
    output.fields(&[
        ("file", or_dash(file)),
        ("profile", or_dash(settings.profile)),
        ("url", settings.url.to_string()),
        ("key from", settings.key_origin),
        ("ca_file", or_dash(settings.ca_file.map(|path| path.display().to_string()))),
        (
            "client_cert_file",
            or_dash(settings.client_cert_file.map(|path| path.display().to_string())),
        ),
        (
            "coordinator_keys",
            or_dash(Some(settings.coordinator_keys.join(", ")).filter(|k| !k.is_empty())),
        ),
    ])?;
    Ok(Ending::Done)
}

impl Set {
    fn run(self, choice: Choice) -> Result<Ending, Failure> {
        let path = path(choice)?;
        let exists = path.exists();
        let mut profiles = if exists { Profiles::read(&path)? } else { Profiles::default() };
        profiles.profiles.entry(self.name.clone()).or_default();
        for change in &self.changes {
            let (key, value) = change
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("{change:?}: must be KEY=VALUE")))?;
            // The value is left out of messages: it may be a key after all.
            let wrong = |why: String| Failure::usage(format!("{key}: {why}"));
            match (key, value) {
                ("key", "-") => profiles.set(&self.name, key, &typed()?).map_err(wrong)?,
                ("key", value) if !value.is_empty() => {
                    let why = "other users can see arguments; say key=- and type or pipe it";
                    return Err(wrong(why.to_owned()));
                }
                (key, value) => profiles.set(&self.name, key, value).map_err(wrong)?,
            }
        }
        if self.default {
            profiles.default = Some(self.name);
        }
        if exists && has_comments(&path) {
            eprintln!("aitbc: comments of {} are not kept", path.display());
        }
        profiles.write(&path).map_err(Failure::write(&path))?;
        Ok(Ending::Done)
    }
}

fn path(choice: Choice) -> Result<PathBuf, ProfileError> {
    choice.file.or_else(profile::usual_file).ok_or(ProfileError::NoHome)
}

fn has_comments(path: &std::path::Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| line.trim_start().starts_with('#'))
}

/// The key, from a pipe or from somebody who types it unseen.
fn typed() -> Result<String, Failure> {
    let wrong = |error: std::io::Error| Failure::usage(format!("standard input: {error}"));
    if std::io::stdin().is_terminal() {
        eprint!("key: ");
        return console::Term::stderr().read_secure_line().map_err(wrong);
    }
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).map_err(wrong)?;
    Ok(text.trim().to_owned())
}
