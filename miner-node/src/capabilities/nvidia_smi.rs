//! NVIDIA GPUs through `nvidia-smi`, where the library is not to be had. As the seed's script has
//! it: the program is there and ends with 0, or there is no GPU.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::gpu::{DeviceProbe, GpuDevice, NoDevices, Vendor};

/// What is asked for; [`parse_line`] expects it in this order.
const QUERY: &str = "--query-gpu=index,name,memory.total,memory.free,utilization.gpu,temperature.gpu,driver_version";

/// A broken driver can hang the program.
const TIMEOUT: Duration = Duration::from_secs(10);

/// No list of GPUs is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// The program.
pub struct NvidiaSmi(PathBuf);

impl NvidiaSmi {
    /// The one that the path finds, as the seed's script does.
    pub fn in_path() -> Self {
        Self(PathBuf::from("nvidia-smi"))
    }

    /// Another one.
    pub fn at(program: PathBuf) -> Self {
        Self(program)
    }

    fn run(&self) -> Result<String, NoDevices> {
        let mut child = self.start().map_err(|error| NoDevices(format!("nvidia-smi: {error}")))?;
        let text = child.stdout.take().and_then(read_in_time);
        if text.is_none() {
            // It hangs; ending it is all that is left, and it may have ended by itself.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| NoDevices(format!("nvidia-smi: {error}")))?;
        match text {
            None => Err(NoDevices("nvidia-smi does not answer".to_owned())),
            Some(_) if !status.success() => Err(NoDevices(format!("nvidia-smi: {status}"))),
            Some(text) => Ok(text),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a fixed program of the driver, no job's: the sandbox would hide the GPU from it"
    )]
    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.0)
            .args([QUERY, "--format=csv,noheader,nounits"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }
}

/// All that the program says, unless it takes too long. Reading on a thread of its own, because a
/// pipe has no time limit.
fn read_in_time(stdout: ChildStdout) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MAX_BYTES).read_to_end(&mut bytes);
        // After a timeout nobody listens any more.
        let _ = sender.send(read.map(|_| String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver.recv_timeout(TIMEOUT).ok()?.ok()
}

impl DeviceProbe for NvidiaSmi {
    fn name(&self) -> &'static str {
        "nvidia-smi"
    }

    fn devices(&self) -> Result<Vec<GpuDevice>, NoDevices> {
        Ok(parse(&self.run()?))
    }
}

/// The lines of a list; if none can be understood, there is still a GPU, of which nothing is known.
pub fn parse(text: &str) -> Vec<GpuDevice> {
    let devices: Vec<_> = text.lines().filter_map(parse_line).collect();
    if devices.is_empty() { vec![GpuDevice::named("NVIDIA GPU", Vendor::Nvidia)] } else { devices }
}

/// `0, NVIDIA GeForce RTX 4060 Ti, 16380, 15800, 3, 41, 545.23.08`; what the card does not know
/// reads `[N/A]`.
fn parse_line(line: &str) -> Option<GpuDevice> {
    let (index, rest) = line.split_once(',')?;
    let mut last = rest.rsplitn(6, ',').map(str::trim);
    let driver = last.next()?.to_owned();
    let temperature_c = last.next()?.parse().ok();
    let utilization_pct = last.next()?.parse().ok();
    let vram_free_mb = last.next()?.parse().ok();
    let vram_total_mb = last.next()?.parse().unwrap_or(0);
    let name = last.next()?;
    Some(GpuDevice {
        index: index.trim().parse().ok()?,
        vram_total_mb,
        vram_free_mb,
        utilization_pct,
        temperature_c,
        driver: Some(driver),
        ..GpuDevice::named(name, Vendor::Nvidia)
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::sandbox::script;

    fn fake(text: &str) -> (TempDir, NvidiaSmi) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("nvidia-smi");
        script::write(&path, text);
        (directory, NvidiaSmi::at(path))
    }

    #[test]
    fn what_the_program_lists() {
        let (_directory, smi) = fake(
            "echo '0, NVIDIA GeForce RTX 4060 Ti, 16380, 15800, 3, 41, 545.23.08'; echo '1, Tesla, K80, 11441, [N/A], [N/A], 30, 470.1'",
        );
        let devices = smi.devices().unwrap();
        assert_eq!(devices.len(), 2);
        assert_eq!(devices[0].name, "NVIDIA GeForce RTX 4060 Ti");
        assert_eq!((devices[0].vram_total_mb, devices[0].vram_free_mb), (16_380, Some(15_800)));
        assert_eq!((devices[0].utilization_pct, devices[0].temperature_c), (Some(3), Some(41)));
        assert_eq!(devices[0].driver.as_deref(), Some("545.23.08"));
        assert_eq!((devices[1].name.as_str(), devices[1].vram_free_mb), ("Tesla, K80", None));
    }

    #[test]
    fn a_broken_driver_counts_as_none() {
        let (_directory, smi) = fake("echo 'NVIDIA-SMI has failed'; exit 9");
        assert!(smi.devices().unwrap_err().0.contains('9'));
        let (directory, _) = fake("");
        assert!(NvidiaSmi::at(directory.path().join("missing")).devices().is_err());
    }

    #[test]
    fn ending_with_0_is_enough() {
        let (_directory, smi) = fake("exit 0");
        let devices = smi.devices().unwrap();
        assert_eq!(devices.len(), 1);
        assert!(devices[0].is_usable());
    }
}
