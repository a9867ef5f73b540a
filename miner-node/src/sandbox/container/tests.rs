//! What is made of an engine's answers. The engine is a script that starts what a test wants.

use tempfile::TempDir;

use super::*;
use crate::facts::usable_processors;
use crate::sandbox::{Policy, Tools, script};

/// An engine that runs the program `run` and answers `inspect` to whoever asks for a container.
struct Fake {
    directory: TempDir,
    engine: Engine,
    limits: Limits,
}

impl Fake {
    fn new(run: &str, inspect: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display();
        // Whoever removes a container ends what runs in it.
        let text = format!(
            "cd {place}\ncase $1 in\nrun) echo $$ >pid; {run} ;;\n\
             inspect) {inspect} ;;\nrm) kill -9 $(cat pid) 2>/dev/null; exit 0 ;;\nesac\n"
        );
        let program = directory.path().join("engine");
        script::write(&program, &text);
        let (kind, owner) = (EngineKind::Podman, "test".to_owned());
        let keeps_processors = Ok(());
        let engine = Engine { program, kind, is_rootless: true, owner, keeps_processors };
        Self { directory, engine, limits: Limits::trial() }
    }

    async fn run(&self, places: &Places) -> Contained {
        for path in [&places.work, &places.input] {
            std::fs::create_dir_all(path).unwrap();
        }
        let sandbox = Sandbox::new(Tools::find().unwrap(), &Policy::default()).unwrap();
        let container = Container {
            name: "aitbc-test".to_owned(),
            image: "localhost/tiny@sha256:00".to_owned(),
            args: Vec::new(),
            job_file: self.directory.path().join("job.json"),
            may_pull: false,
            entrypoint: None,
            limits: self.limits.clone(),
        };
        let interrupt = Interrupt::default();
        sandbox.run_container(&self.engine, &container, places, &interrupt).await.unwrap()
    }

    fn places(&self) -> Places {
        Places::below(self.directory.path())
    }
}

#[test]
fn what_an_engine_says_of_an_end() {
    let verdict = |code, is_out_of_memory| Some(Verdict { code, is_out_of_memory });
    assert_eq!(Verdict::parse("exited 137 true\n"), verdict(137, true));
    assert_eq!(Verdict::parse("stopped 0 false"), verdict(0, false));
    for said in ["", "created 0 false", "running 0 false", "exited x true", "exited 1"] {
        assert_eq!(Verdict::parse(said), None, "{said}");
    }
    assert_eq!((natural(137), natural(3)), (Ending::Signaled(9), Ending::Exited(3)));
}

/// An engine that says that its user has `controllers`, and then refuses a container with what
/// `refused` matches.
async fn tried(controllers: &str, refused: &str) -> (Result<(), String>, Engine) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("engine");
    let text = format!(
        "case \"$*\" in\n--version) echo podman version 4.3.1 ;;\n*Rootless*) echo true ;;\n\
         *CgroupControllers*) echo '{controllers}' ;;\n\
         run*{refused}*) echo 'crun: controller is not available' >&2; exit 126 ;;\n\
         run*) exit 127 ;;\ninspect*) exit 1 ;;\nesac\n"
    );
    script::write(&program, &text);
    let sandbox = Sandbox::new(Tools::find().unwrap(), &Policy::default()).unwrap();
    let mut engine = sandbox.engine(&program, "test").await.unwrap();
    let below = directory.path().join("trial");
    let image = "localhost/tiny@sha256:00";
    let tried = sandbox.try_container(&mut engine, image, &below, &usable_processors()).await;
    (tried, engine)
}

#[tokio::test]
async fn an_engine_keeps_to_processors_where_it_says_so_and_does() {
    let (tried, engine) = tried("[cpuset cpu memory pids]", "--no-such-option").await;
    assert_eq!((tried, engine.keeps_processors), (Ok(()), Ok(())));
}

#[tokio::test]
async fn an_engine_that_keeps_to_none_works_all_the_same_and_says_why() {
    // As systemd has it for users: whoever asks for more is refused.
    let (tried_without, engine) = tried("[cpu memory pids]", "--cpuset-cpus").await;
    let why = engine.keeps_processors.unwrap_err();
    assert!(tried_without.is_ok() && why.contains("no cpuset"), "{tried_without:?} {why}");
    // It knows less of its user's groups than it says.
    let (tried_beyond, engine) = tried("[cpuset cpu memory pids]", "--cpuset-cpus").await;
    let why = engine.keeps_processors.unwrap_err();
    assert!(tried_beyond.is_ok() && why.contains("is not available"), "{tried_beyond:?} {why}");
    // What is wrong with it has nothing to do with that.
    let (tried_in_vain, engine) = tried("[cpuset cpu memory pids]", "--network").await;
    assert!(tried_in_vain.unwrap_err().contains("is not available"));
    assert_eq!(engine.keeps_processors, Ok(()));
}

/// An engine on another machine, say, whose numbers of processes have their own meaning here.
#[tokio::test]
async fn a_stranger_is_not_taken_for_the_container() {
    let stranger = std::process::id();
    let inspect = format!("[ -e once ] && touch again; touch once; echo {stranger} 0123456789ab");
    let fake = Fake::new("while [ ! -e again ]; do sleep 0.02; done", &inspect);
    let Contained { ending, usage } = fake.run(&fake.places()).await;
    assert_eq!(ending, Ending::Exited(0));
    assert_eq!((usage.max_rss_bytes, usage.cpu), (0, Duration::ZERO));
}

#[tokio::test]
async fn what_a_container_writes_is_booked_and_ends_where_the_disk_does() {
    let run = "head -c 300000 /dev/zero >work/file; exec sleep 1000";
    let mut fake = Fake::new(run, "exit 1");
    fake.limits.least_free_bytes = u64::MAX;
    let places = fake.places();
    let Contained { ending, usage } = fake.run(&places).await;
    assert_eq!(ending, Ending::DiskFull);
    let booked = places.written_bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(booked >= 300_000 && usage.written_bytes >= booked, "{booked} {usage:?}");
}
