//! The directory of one job, and the names of what is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::Timestamp;

use super::{Phase, State, read_json, write_json};
use crate::sandbox::Places;

/// The directory of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDir(pub(super) PathBuf);

impl JobDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its input files.
    pub fn input(&self) -> PathBuf {
        self.0.join("input")
    }

    /// The program's own directory.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The collected artifacts.
    pub fn output(&self) -> PathBuf {
        self.0.join("output")
    }

    /// The program's standard output: its hash is the job's `output_sha`.
    pub fn out_txt(&self) -> PathBuf {
        self.0.join("out.txt")
    }

    /// The program's standard error.
    pub fn stderr_log(&self) -> PathBuf {
        self.0.join("logs/stderr.log")
    }

    /// What the program is told about the job.
    pub fn job_file(&self) -> PathBuf {
        self.0.join("job.json")
    }

    /// The report that has to be delivered.
    pub fn report_file(&self) -> PathBuf {
        self.0.join("report.json")
    }

    /// The receipt that the coordinator attested.
    pub fn receipt_file(&self) -> PathBuf {
        self.0.join("receipt.json")
    }

    /// The parts that the sandbox needs to know.
    pub fn places(&self) -> Places {
        Places {
            work: self.work(),
            input: self.input(),
            stdout: self.out_txt(),
            stderr: self.stderr_log(),
            door: None,
            gpu: None,
            processors: Vec::new(),
            written_bytes: Arc::default(),
        }
    }

    /// Reads `state.json`.
    ///
    /// # Errors
    /// Where it is not there or not ours.
    pub fn state(&self) -> io::Result<State> {
        read_json(&self.0.join("state.json"))
    }

    /// Writes `state.json`, durably.
    ///
    /// # Errors
    /// Of the file system.
    pub fn save(&self, state: &State) -> io::Result<()> {
        write_json(&self.0.join("state.json"), state)
    }

    /// Writes another phase.
    ///
    /// # Errors
    /// Of the file system.
    pub fn enter(&self, phase: Phase, now: Timestamp) -> io::Result<()> {
        self.save(&State { phase, updated_at: now, ..self.state()? })
    }

    /// Gives the program's standard output its second name, `logs/stdout.log`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn link_stdout(&self) -> io::Result<()> {
        fs::hard_link(self.out_txt(), self.0.join("logs/stdout.log"))
    }
}
