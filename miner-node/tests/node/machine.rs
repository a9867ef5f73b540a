//! A machine of its own for the program under test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A machine of its own: nothing but what a test puts there is read.
pub struct Machine {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self { directory: TempDir::new().unwrap(), variables: Vec::new() };
        // Jobs with a user id of their own pass through it.
        let open = fs::Permissions::from_mode(0o711);
        fs::set_permissions(machine.directory.path(), open).unwrap();
        machine.write("miner.conf", "", 0o600);
        machine
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn conf(self, text: &str) -> Self {
        self.write("miner.conf", text, 0o600);
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a fake `nvidia-smi` first in the path: there are no GPUs where tests run.
    pub fn nvidia_smi(self, script: &str) -> Self {
        self.write("bin/nvidia-smi", &format!("#!/bin/sh\n{script}\n"), 0o755);
        self
    }

    #[expect(clippy::disallowed_methods, reason = "the program under test")]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_miner-node"));
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin")))
            .env("WORK_DIR", self.path("work"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .args(["--config", &self.path("miner.conf")])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same after `script` has broken the machine, in namespaces of its own: nobody else sees of
    /// it.
    #[expect(clippy::disallowed_methods, reason = "the program under test, on a broken machine")]
    pub fn run_broken(&self, arguments: &[&str], script: &str) -> Output {
        let command = self.command(arguments);
        let mut broken = Command::new("/usr/bin/unshare");
        broken.args(["--user", "--map-root-user", "--mount", "--", "/bin/sh", "-euc"]);
        broken.arg(format!("{script}\nexec \"$@\"")).arg("sh");
        broken.arg(command.get_program()).args(command.get_args()).env_clear();
        broken.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        broken.stdin(Stdio::null()).output().unwrap()
    }

    pub fn code(&self, arguments: &[&str]) -> i32 {
        self.run(arguments).status.code().unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}
