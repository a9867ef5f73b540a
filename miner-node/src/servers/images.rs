//! Servers that paint: the HTTP API of AUTOMATIC1111's web UI, which others have taken over
//! (`/sdapi/v1/txt2img`, its `/docs`).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};

use super::page::Page;
use super::{Connection, Outcome, ServerError, quoted};
use crate::private;
use crate::sandbox::{Ending, Limits, Places};

/// Under which name the image lies in the job's work directory.
pub const IMAGE: &str = "image.png";

/// The largest list of models, or answer about progress, that is read, in bytes.
const LARGEST_LIST: usize = 4 << 20;

/// How long a server may take over what it only has to look up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two questions how far it is.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);

/// How long a server may take to be told that nobody wants the image any more.
const INTERRUPTION: Duration = Duration::from_secs(5);

/// What a reply holds besides the image, in bytes.
const REMARKS: usize = 1 << 20;

/// What a PNG begins with, and how long its header is, in bytes.
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// What it ends with.
const TRAILER: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";

/// A server, which paints one image at a time: what is interrupted there is the one at work.
#[derive(Debug)]
pub struct Studio {
    /// How to reach it.
    pub connection: Connection,
    turn: Mutex<()>,
}

/// What is to be painted, by which model of which server.
#[derive(Debug, Clone)]
pub struct Painting {
    /// The server.
    pub studio: Arc<Studio>,
    /// The model, as it is offered to jobs.
    pub model: String,
    /// The model, as the server calls it.
    pub checkpoint: String,
    /// What the image shows.
    pub prompt: String,
    /// What it does not show.
    pub negative_prompt: String,
    /// How often it is gone over.
    pub steps: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Where chance begins; absent: anywhere.
    pub seed: Option<u32>,
    /// How closely it follows the prompt; absent: the server's own way.
    pub cfg_scale: Option<f64>,
    /// How it is gone over; absent: the server's own way.
    pub sampler: Option<String>,
}

/// A model of a server: its plain name, and the title under which it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Checkpoint {
    /// Its plain name.
    pub model_name: String,
    /// With the hash of its file.
    pub title: String,
}

/// An image that is what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Painted {
    /// The PNG.
    pub png: Vec<u8>,
    /// Where chance began.
    pub seed: Option<u64>,
}

#[derive(Deserialize)]
struct Reply {
    images: Vec<String>,
    #[serde(default)]
    info: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    seed: Option<u64>,
    sd_model_name: Option<String>,
}

#[derive(Deserialize)]
struct Progress {
    progress: f64,
}

impl Studio {
    /// The server behind `connection`.
    pub fn new(connection: Connection) -> Self {
        Self { connection, turn: Mutex::new(()) }
    }

    /// Waits until it paints nothing for us: it does one image at a time.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Asks which models it has.
    ///
    /// # Errors
    /// Why it does not say so.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, ServerError> {
        let listing = self.connection.get("/sdapi/v1/sd-models", LARGEST_LIST);
        let listed = timeout(PATIENCE, listing).await;
        checkpoints(
            &listed.unwrap_or_else(|_| {
                Err(ServerError::Gone("it does not list its models".to_owned()))
            })?,
        )
    }

    /// Tells the page how far the image at work is, for as long as it is asked.
    async fn follow(&self, page: &mut Page) -> ServerError {
        loop {
            sleep(PROGRESS_PAUSE).await;
            let asking =
                self.connection.get("/sdapi/v1/progress?skip_current_image=true", LARGEST_LIST);
            // A server that does not say so paints all the same.
            let Ok(Ok(body)) = timeout(PATIENCE, asking).await else { continue };
            let Ok(Progress { progress }) = serde_json::from_slice(&body) else { continue };
            let pct = (progress * 100.0).clamp(0.0, 100.0) as u64;
            if let Err(error) = page.progress(pct, 100, "% painted").await {
                return error.into();
            }
        }
    }
}

impl Painting {
    /// Asks, and leaves the image in the work directory; until `over` says how it ends before.
    pub(super) async fn run(
        &self,
        places: &Places,
        limits: &Limits,
        over: impl Future<Output = Ending>,
    ) -> Result<Outcome, ServerError> {
        let mut page = Page::create(places, limits.output_bytes).await?;
        let mut over = std::pin::pin!(over);
        let ask = self.ask(limits.output_bytes);
        let painted = tokio::select! {
            painted = ask => painted?,
            error = self.studio.follow(&mut page) => return Err(error),
            ending = &mut over => {
                // It would paint on: closing the connection does not tell it.
                let nothing = json!({});
                let interruption = self.studio.connection.post("/sdapi/v1/interrupt", &nothing);
                let _ = timeout(INTERRUPTION, interruption).await;
                return Ok(Outcome::of(ending));
            }
        };
        let Some(painted) = painted else { return Ok(Outcome::of(Ending::OutputLimit)) };
        let mut metrics = Map::new();
        metrics.insert("steps".to_owned(), self.steps.into());
        let mut about = json!({"image": IMAGE, "model": self.model, "width": self.width,
            "height": self.height, "steps": self.steps});
        if let Some(seed) = painted.seed {
            about["seed"] = seed.into();
        }
        let path = places.work.join(IMAGE);
        let write = move || -> std::io::Result<()> {
            let mut file = private::file().create_new(true).open(path)?;
            file.write_all(&painted.png)?;
            file.sync_all()
        };
        tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)??;
        page.write(format!("{about}\n").as_bytes()).await?;
        page.close().await?;
        Ok(Outcome { ending: Ending::Exited(0), tokens: None, metrics })
    }

    /// The image; `None` where it is larger than `most` bytes.
    async fn ask(&self, most: u64) -> Result<Option<Painted>, ServerError> {
        let reply = self.studio.connection.post("/sdapi/v1/txt2img", &self.request()).await?;
        let most = usize::try_from(most).unwrap_or(usize::MAX / 4);
        // Base64 makes four characters of three bytes.
        let body = reply.whole((most / 3 + 1).saturating_mul(4).saturating_add(REMARKS)).await?;
        let painted = self.painted(&body)?;
        Ok((painted.png.len() <= most).then_some(painted))
    }

    /// The image in the body of a reply, if it is the one that was asked for.
    ///
    /// # Errors
    /// [`ServerError::Nonsense`] where it is not.
    pub fn painted(&self, body: &[u8]) -> Result<Painted, ServerError> {
        let nonsense = |why: &str| ServerError::Nonsense(quoted(why));
        let reply: Reply =
            serde_json::from_slice(body).map_err(|error| nonsense(&error.to_string()))?;
        let info: Info = serde_json::from_str(&reply.info).unwrap_or_default();
        if let Some(other) = info.sd_model_name.filter(|name| !self.is_by(name)) {
            return Err(nonsense(&format!("{other} painted where {} was asked", self.model)));
        }
        let [image] = reply.images.as_slice() else {
            return Err(nonsense(&format!("{} images instead of one", reply.images.len())));
        };
        // Some put a `data:` URL's head before it.
        let image = image.rsplit_once(',').map_or(image.as_str(), |(_, image)| image);
        let png = STANDARD.decode(image).map_err(|error| nonsense(&error.to_string()))?;
        match dimensions(&png) {
            Some(size) if size == (self.width, self.height) => Ok(Painted { png, seed: info.seed }),
            Some((width, height)) => Err(nonsense(&format!(
                "a PNG of {width} x {height} instead of {} x {}",
                self.width, self.height
            ))),
            None => Err(nonsense("what it painted is no PNG")),
        }
    }

    /// Whether what the server calls `name` is the model that was asked for.
    fn is_by(&self, name: &str) -> bool {
        self.checkpoint == name
            || self.checkpoint.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.']))
    }

    fn request(&self) -> Value {
        let mut body = json!({
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "steps": self.steps,
            "width": self.width,
            "height": self.height,
            "batch_size": 1,
            "n_iter": 1,
            "override_settings": {"sd_model_checkpoint": self.checkpoint},
            // The image is the client's; nothing of it stays with the server.
            "send_images": true,
            "save_images": false,
            "do_not_save_samples": true,
            "do_not_save_grid": true,
        });
        if let Some(seed) = self.seed {
            body["seed"] = seed.into();
        }
        if let Some(scale) = self.cfg_scale {
            body["cfg_scale"] = json!(scale);
        }
        if let Some(sampler) = &self.sampler {
            body["sampler_name"] = sampler.as_str().into();
        }
        body
    }
}

/// The models in the body of a list.
///
/// # Errors
/// [`ServerError::Nonsense`] where it is no such list.
pub fn checkpoints(body: &[u8]) -> Result<Vec<Checkpoint>, ServerError> {
    serde_json::from_slice(body).map_err(|error| {
        ServerError::Nonsense(format!("no list of models: {}", quoted(&error.to_string())))
    })
}

/// Width and height of a PNG, which has to be there from its signature to its trailer.
pub fn dimensions(png: &[u8]) -> Option<(u32, u32)> {
    let (width, rest) = png.strip_prefix(SIGNATURE)?.split_first_chunk()?;
    let (height, rest) = rest.split_first_chunk()?;
    // Behind what was read: the trailer begins with zeros, which are numbers, too.
    rest.ends_with(TRAILER).then(|| (u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Interrupt;
    use crate::servers::{Call, Request};

    /// A PNG as far as its form goes.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        [SIGNATURE, &size, b"\x08\x02\0\0\0....", TRAILER].concat()
    }

    fn painting() -> Painting {
        // Another test may have been faster; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = "http://127.0.0.1:7860".parse().unwrap();
        let connection = Connection::new(base, None, Duration::from_secs(1)).unwrap();
        Painting {
            studio: Arc::new(Studio::new(connection)),
            model: "sd15".to_owned(),
            checkpoint: "sd15.safetensors [6ce0]".to_owned(),
            prompt: "a cat".to_owned(),
            negative_prompt: String::new(),
            steps: 20,
            width: 64,
            height: 128,
            seed: Some(7),
            cfg_scale: None,
            sampler: None,
        }
    }

    fn reply(png: &[u8], info: &str) -> Vec<u8> {
        let reply = json!({"images": [STANDARD.encode(png)], "parameters": {}, "info": info});
        serde_json::to_vec(&reply).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_others_is_not_the_jobs_run_time() {
        let painting = painting();
        let studio = Arc::clone(&painting.studio);
        let _others = studio.turn().await;
        let limits = Limits { wall: Duration::from_secs(5), ..Limits::trial() };
        let call = Call { request: Request::Image(painting), limits };
        let (root, interrupt) = (tempfile::tempdir().unwrap(), Interrupt::default());
        let places = Places::below(root.path());
        let cancel = async {
            sleep(Duration::from_secs(60)).await;
            interrupt.cancel.cancel();
        };
        let (served, ()) = tokio::join!(call.run(&places, &interrupt), cancel);
        let served = served.unwrap();
        assert_eq!((served.ending, served.wall), (Ending::Canceled, Duration::ZERO));
    }

    #[test]
    fn the_image_that_was_asked_for() {
        let (painting, png) = (painting(), png(64, 128));
        let info = r#"{"seed": 7, "sd_model_name": "sd15", "width": 64}"#;
        let painted = painting.painted(&reply(&png, info)).unwrap();
        assert_eq!((painted.png, painted.seed), (png.clone(), Some(7)));
        // Older servers say less.
        assert_eq!(painting.painted(&reply(&png, "")).unwrap().seed, None);
    }

    #[test]
    fn and_no_other() {
        let painting = painting();
        let image = png(64, 128);
        let jpeg = [b"\xff\xd8\xff\xe0".as_slice(), &image].concat();
        let two = json!({"images": [STANDARD.encode(&image), STANDARD.encode(&image)]});
        for body in [
            reply(&png(128, 64), ""),
            reply(&jpeg, ""),
            reply(&image[..image.len() - 1], ""),
            reply(&image[..20], ""),
            reply(&image, r#"{"sd_model_name": "sdxl"}"#),
            serde_json::to_vec(&two).unwrap(),
            b"{\"images\":[]}".to_vec(),
            b"{\"images\":[\"!!\"]}".to_vec(),
            b"<html>".to_vec(),
        ] {
            let error = painting.painted(&body).unwrap_err();
            assert!(matches!(error, ServerError::Nonsense(_)), "{error}");
        }
    }

    #[test]
    fn lists_of_models() {
        let body = br#"[{"title":"sd15.safetensors [6ce0]","model_name":"sd15","hash":"6ce0",
            "sha256":null,"filename":"/models/sd15.safetensors","config":null}]"#;
        assert_eq!(checkpoints(body).unwrap()[0].model_name, "sd15");
        for body in ["", "{}", "[1]", r#"[{"title":"a"}]"#] {
            assert!(checkpoints(body.as_bytes()).is_err(), "{body}");
        }
    }
}
