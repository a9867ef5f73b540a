//! `aitbc job artifacts`: the files that a job left behind.

use std::path::{Path, PathBuf};

use clap::Args;
use protocol::JobId;
use protocol::client::ArtifactList;
use protocol::miner::StoredArtifact;

use crate::coordinator::{calls, transfer};
use crate::ending::{Ending, Failure};
use crate::output::{Output, Progress};
use crate::session::Session;

/// The files of a job.
#[derive(Debug, Args)]
pub struct Artifacts {
    /// The job
    id: JobId,
    /// Fetch them into this directory; what broke off goes on where it was
    #[arg(long, value_name = "DIR")]
    download: Option<PathBuf>,
    /// Only this one; may be repeated
    #[arg(long, value_name = "PATH", requires = "download")]
    only: Vec<String>,
    /// Replace files that are there with another content
    #[arg(long, requires = "download")]
    force: bool,
}

impl Artifacts {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Some(directory) = &self.download else {
            return session.show(calls::artifacts(self.id), list).await;
        };
        let reply = session.coordinator.ask(&calls::artifacts(self.id)).await?;
        let mut found = reply.read::<ArtifactList>()?.items;
        for path in &self.only {
            if !found.iter().any(|artifact| artifact.path.as_str() == path) {
                return Err(Failure::usage(format!("the job left no artifact {path:?}")));
            }
        }
        if !self.only.is_empty() {
            found.retain(|artifact| self.only.iter().any(|path| path == artifact.path.as_str()));
        }
        for artifact in &found {
            let path = self.fetch(session, directory, artifact).await?;
            if !session.output.json {
                session.output.line(&path.display().to_string())?;
            }
        }
        if session.output.json {
            session.output.line(reply.text()?)?;
        }
        Ok(Ending::Done)
    }

    async fn fetch(
        &self,
        session: &Session,
        directory: &Path,
        artifact: &StoredArtifact,
    ) -> Result<PathBuf, Failure> {
        let path = directory.join(artifact.path.as_str());
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(Failure::write(parent))?;
        if path.exists() && !self.force {
            let there = transfer::digest(&path).await;
            if there.is_ok_and(|there| there.sha256 == artifact.sha256) {
                return Ok(path);
            }
            return Err(Failure::in_the_way(&path));
        }
        let partial = parent.join(partial_name(artifact));
        let progress = Progress::of_file(artifact.path.as_str(), artifact.bytes);
        let fetched = session.coordinator.download(self.id, artifact, &partial, &progress).await;
        progress.end();
        fetched?;
        std::fs::rename(&partial, &path).map_err(Failure::write(&path))?;
        Ok(path)
    }
}

/// Where a file stands until it is whole: by its hash, so that nothing else is ever taken for it.
fn partial_name(artifact: &StoredArtifact) -> String {
    format!(".{:.32}.part", artifact.sha256.to_string())
}

fn list(output: &Output, artifacts: ArtifactList) -> Result<(), Failure> {
    let rows = artifacts.items.into_iter().map(|artifact| {
        [artifact.path.to_string(), artifact.bytes.to_string(), artifact.sha256.to_string()]
    });
    output.table(["PATH", "BYTES", "SHA256"], rows)
}
