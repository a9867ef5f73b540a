//! The `container` runner: an image of the owner's list, named by its digest, in the owner's engine.

use std::path::{Path, PathBuf};

use protocol::job::Network;
use protocol::{FailureCode, Job};
use serde::Deserialize;

use super::{Fault, Refusal};
use crate::config::ContainerRunner;
use crate::facts::usable_processors;
use crate::sandbox::container::{Container, Engine};
use crate::sandbox::{Limits, Sandbox};

/// The workload of jobs that only name an image.
pub const WORKLOAD: &str = "container";

/// Where engines are looked for. Not `PATH`: it belongs to whoever started the node.
const ENGINES: [&str; 4] =
    ["/usr/bin/podman", "/usr/local/bin/podman", "/usr/bin/docker", "/usr/local/bin/docker"];

/// The most arguments of a container, and their bytes together.
const MOST_ARGUMENTS: usize = 256;
const LONGEST_ARGUMENTS: usize = 64 << 10;

/// The runner.
#[derive(Debug)]
pub struct Containers {
    engine: Engine,
    images: Vec<String>,
    may_pull: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    image: String,
    #[serde(default)]
    args: Vec<String>,
}

impl Containers {
    /// A runner as configured, if the engine works, has at least one of the images, and was seen to
    /// set up a container of it below `directory`. `owner` names this node among those that use the
    /// same engine.
    ///
    /// # Errors
    /// Why not, for the owner.
    pub async fn probe(
        config: &ContainerRunner,
        sandbox: &Sandbox,
        directory: &Path,
        owner: &str,
    ) -> Result<Self, Fault> {
        if let Some(image) = config.images.iter().find(|image| !is_pinned(image)) {
            return Err(Fault::new(
                format!("runners.container.images: {image} is not NAME@sha256:DIGEST"),
                "name it as podman image inspect --format '{{index .RepoDigests 0}}' does",
            ));
        }
        if sandbox.requires_anything() {
            return Err(Fault::new(
                "sandbox.require names parts that no engine vouches for",
                "empty sandbox.require, or set runners.container.enable: false",
            ));
        }
        let program = program(&config.engine)?;
        let mut engine = sandbox.engine(&program, owner).await.map_err(|error| {
            let fix = format!("{} info has to work for the node's user", program.display());
            Fault::new(error.to_string(), fix)
        })?;
        if !engine.is_rootless && !config.allow_rootful {
            return Err(Fault::new(
                format!("{} is refused", engine.level()),
                "run the node as the user of a rootless engine, or set runners.container.allow_rootful",
            ));
        }
        let mut images = Vec::new();
        let mut here = None;
        for image in &config.images {
            let is_here = sandbox.has_image(&engine, image).await;
            here = here.or_else(|| is_here.then(|| image.clone()));
            if config.pull || is_here {
                images.push(image.clone());
            }
        }
        if images.is_empty() {
            return Err(Fault::new(
                "none of runners.container.images is at hand",
                "fetch one as the node's user (podman pull), or set runners.container.pull",
            ));
        }
        // What has to be fetched first is seen when a job needs it.
        if let Some(image) = here {
            let processors = usable_processors();
            let tried = sandbox.try_container(&mut engine, &image, directory, &processors).await;
            // Left behind it is only clutter.
            let _ = std::fs::remove_dir_all(directory);
            tried.map_err(|why| {
                let fix = "see that the engine starts it: podman run --rm --network=none IMAGE";
                Fault::new(format!("a trial container could not be set up: {why}"), fix)
            })?;
        }
        Ok(Self::of(engine, images, config.pull))
    }

    /// A runner of `engine`, for these images and no others.
    pub const fn of(engine: Engine, images: Vec<String>, may_pull: bool) -> Self {
        Self { engine, images, may_pull }
    }

    /// What it is, for `probe` and `doctor`.
    pub fn description(&self) -> String {
        format!("{}, {} images", self.engine.level(), self.images.len())
    }

    /// Why jobs are not kept to their processors, where they are not, and what would help.
    pub fn strays(&self) -> Option<Fault> {
        let why = self.engine.keeps_processors.as_ref().err()?;
        let fix = "permit its user's control groups cpuset: for a rootless engine, \
                   Delegate=cpu cpuset io memory pids in a drop-in of user@.service";
        Some(Fault::new(format!("containers are not kept to their processors: {why}"), fix))
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn plan(
        &self,
        job: &Job,
        job_file: &Path,
        limits: Limits,
    ) -> Result<Container, Refusal> {
        let params: Params = serde_json::from_value(job.params.clone().into())
            .map_err(|error| Refusal::new(FailureCode::Input, format!("params: {error}")))?;
        let deny = |why: String| Err(Refusal::new(FailureCode::Deny, why));
        if !self.images.contains(&params.image) {
            let image: String = params.image.chars().take(200).collect();
            return deny(format!("image {image:?} is not on this node's list"));
        }
        let bytes: usize = params.args.iter().map(String::len).sum();
        if params.args.len() > MOST_ARGUMENTS || bytes > LONGEST_ARGUMENTS {
            return deny("too many or too long arguments".to_owned());
        }
        if params.args.iter().any(|arg| arg.contains('\0')) {
            return deny("an argument contains U+0000".to_owned());
        }
        if job.limits.network == Some(Network::Egress) {
            return deny("this node gives containers no network".to_owned());
        }
        Ok(Container {
            name: format!("aitbc-{}-{}", job.id, job.lease.fence).to_lowercase(),
            image: params.image,
            args: params.args,
            job_file: job_file.to_owned(),
            may_pull: self.may_pull,
            entrypoint: None,
            limits,
        })
    }
}

/// `NAME@sha256:` and 64 hexadecimal digits, and nothing that an engine could take for an option.
fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(plain)
        && digest.len() == 64
        && digest.bytes().all(is_hex)
}

fn program(engine: &str) -> Result<PathBuf, Fault> {
    let path = Path::new(engine);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let wanted = |path: &Path| engine == "auto" || path.file_name() == Some(engine.as_ref());
    let found = ENGINES.iter().map(Path::new).find(|path| wanted(path) && path.is_file());
    found.map(Path::to_owned).ok_or_else(|| match engine {
        "auto" => {
            Fault::new("neither podman nor docker is installed", "Debian: apt install podman")
        }
        other => {
            Fault::new(format!("{other} is not installed"), "correct runners.container.engine")
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::job;
    use super::*;
    use crate::sandbox::container::EngineKind;

    const IMAGE: &str =
        "localhost/tiny@sha256:a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";

    fn plan(params: Value) -> Result<Container, Refusal> {
        let engine = Engine {
            program: "/usr/bin/podman".into(),
            kind: EngineKind::Podman,
            is_rootless: true,
            owner: "rig7".to_owned(),
            keeps_processors: Ok(()),
        };
        let containers = Containers { engine, images: vec![IMAGE.to_owned()], may_pull: false };
        let mut job = job("container");
        job.params = params.as_object().unwrap().clone();
        containers.plan(&job, Path::new("/job.json"), Limits::trial())
    }

    #[test]
    fn only_images_of_the_list() {
        let container = plan(json!({"image": IMAGE, "args": ["--privileged"]})).unwrap();
        assert_eq!(container.args, ["--privileged"]);
        assert_eq!(container.name, "aitbc-01arz3ndektsv4rrffq69g5fav-1");
        for (params, code) in [
            (json!({"image": "localhost/tiny"}), FailureCode::Deny),
            (json!({"image": format!("{IMAGE} --privileged")}), FailureCode::Deny),
            (json!({"image": IMAGE, "args": ["a\0b"]}), FailureCode::Deny),
            (json!({"image": IMAGE, "args": vec!["a"; 300]}), FailureCode::Deny),
            (json!({"image": IMAGE, "volumes": ["/:/host"]}), FailureCode::Input),
            (json!({}), FailureCode::Input),
        ] {
            assert_eq!(plan(params.clone()).unwrap_err().code, code, "{params}");
        }
    }

    #[test]
    fn images_are_named_by_their_digest() {
        assert!(is_pinned(IMAGE));
        for image in ["tiny", "tiny:latest", "--x@sha256:00", &IMAGE[..80], &IMAGE.to_uppercase()] {
            assert!(!is_pinned(image), "{image}");
        }
    }
}
