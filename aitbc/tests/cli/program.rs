//! The program, started in a home of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// Who runs the program, and with which settings.
pub struct Program {
    home: TempDir,
    variables: Vec<(String, String)>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new() -> Self {
        Self { home: TempDir::new().unwrap(), variables: Vec::new() }
    }

    /// With an address and a key.
    pub fn at(url: &str, key: Option<&str>) -> Self {
        let program = Self::new().variable("AITBC_URL", url);
        match key {
            Some(key) => {
                let file = program.file("api.key", &format!("{key}\n"), 0o600);
                program.variable("AITBC_KEY_FILE", &file)
            }
            None => program,
        }
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file into its home, and says where.
    pub fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "the tests start the program under test")]
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aitbc"));
        command
            .env_clear()
            .env("HOME", self.home.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .args(["--retries", "0"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, words: &[&str]) -> Ended {
        Self::end(self.start(words)).await
    }

    pub async fn run_with_input(&self, words: &[&str], input: &str) -> Ended {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        Self::end(child).await
    }

    /// Starts it and does not wait.
    pub fn start(&self, words: &[&str]) -> Child {
        self.command(words).spawn().unwrap()
    }

    pub async fn end(child: Child) -> Ended {
        let output = child.wait_with_output().await.unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// It worked: what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        self.code(0).stdout
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{words:?} is not in {self:?}");
        self
    }
}
