//! What gets through an allowlist, and above all what does not.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

const FFMPEG: &str = r#"
command: {path: /usr/bin/env}
args:
  - ["-y"]
  - ["-i", ".+\\.(mp4|wav)$"]
  - ["-b:v", "[0-9]+k"]
  - ["output.mp4"]
  - {matches: "input/[a-z.]+"}
max_total_args_len: 60
max_runtime_s: 30
max_output_mb: 5
"#;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn load(files: &[(&str, &str)]) -> Result<Allowlist, AllowlistError> {
    Allowlist::load(directory(files).path())
}

fn check(args: &[&str]) -> Result<(), String> {
    let list = load(&[("ffmpeg.yaml", FFMPEG)]).unwrap();
    let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
    list.check("ffmpeg", &args).map(drop)
}

#[test]
fn allowed_arguments_pass() {
    for args in [
        &[][..],
        &["-y"],
        &["-i", "a.mp4", "output.mp4"],
        &["-y", "-i", "input/a b.wav", "-b:v", "128k", "output.mp4"],
        &["input/a.txt", "-y"],
    ] {
        assert_eq!(check(args), Ok(()), "{args:?}");
    }
}

#[test]
fn everything_else_is_denied() {
    for args in [
        &["; rm"][..],
        &["-i"],
        &["-i", "a.mp4; rm"],
        &["-i", "a.mp4\n"],
        &["-i=a.mp4"],
        &["-ia.mp4"],
        &["-i", "a.mp\u{ff14}"],
        &["-i", "\u{e9}.mp4"],
        &["-i", "a\0.mp4"],
        &["-b:v", "128k8"],
        &["-b:v", "x128k"],
        &["xoutput.mp4"],
        &["output.mp4x"],
        &["-Y"],
        &["/etc/passwd"],
        &["input/../../etc"],
        &["-i", "../a.mp4"],
        &["input/A"],
        &[""],
        &["-i", "-exec.mp4"],
        &["-i", "--help.mp4"],
        &["--", "output.mp4"],
        &["-"],
        &["-i", "a.mp4\u{200b}"],
        &["-i", "a\r.mp4"],
        &["-i\0", "a.mp4"],
        &["\u{ff0d}y"],
        &["-y "],
        &["@options"],
        &["-i", "input/..", "output.mp4"],
        &["-i", "a.mp4", "-b:v"],
        &[
            "-y",
            "-y",
            "-y",
            "-y",
            "-y",
            "-y",
            "-y",
            "-y",
            "-y",
            "-y",
            "-i",
            "aaaaaaaaaaaaaaaaaaaaaaaaaa.mp4",
        ],
    ] {
        assert!(check(args).is_err(), "{args:?}");
    }
}

#[test]
fn other_names_are_denied() {
    let list = load(&[("ffmpeg.yaml", FFMPEG)]).unwrap();
    for name in ["", "env", "/usr/bin/env", "ffmpeg ", "../ffmpeg", "FFMPEG"] {
        assert!(list.check(name, &[]).is_err(), "{name:?}");
    }
    let program = list.check("ffmpeg", &[]).unwrap();
    assert_eq!(program.path, Path::new("/usr/bin/env"));
    assert_eq!((program.max_runtime_s, program.max_output_mb), (Some(30), Some(5)));
}

#[test]
fn positional_expressions_admit_no_options() {
    let list =
        load(&[("x.yaml", "command: {path: /usr/bin/env}\nargs: [{matches: '.*'}]")]).unwrap();
    assert!(list.check("x", &["a".to_owned()]).is_ok());
    assert!(list.check("x", &["--exec=a".to_owned()]).is_err());
}

#[test]
fn a_value_that_looks_like_an_option_is_none() {
    let list = load(&[("x.yaml", "command: {path: /usr/bin/env}\nargs: [[-o, '.*']]")]).unwrap();
    let check = |value: &str| list.check("x", &["-o".to_owned(), value.to_owned()]);
    assert!(check("a").is_ok() && check("-7").is_ok() && check("").is_ok());
    for value in ["-x", "--exec=sh", "-", "--"] {
        assert!(check(value).is_err(), "{value}");
    }
}

#[test]
fn the_rule_that_says_no_is_named() {
    for (args, reason) in [
        (&["-i"][..], "argument 1 \"-i\" needs a value"),
        (&["-y", "-i", "a.txt"], "argument 3 \"a.txt\" is no value for -i, which takes"),
        (&["-y", "-z"], "argument 2 \"-z\" is not on this node's allowlist"),
        (&["-y", "a\nb"], "argument 2 \"a\\nb\" is not printable ASCII"),
        (&["input/../x"], "argument 1 \"input/../x\" leads upwards"),
        (&["-y"; 40], "max_total_args_len is 60"),
        (&[""; 257], "257 arguments; at most 256"),
    ] {
        let why = check(args).unwrap_err();
        assert!(why.contains(reason), "{args:?}: {why}");
    }
}

#[test]
fn programs_may_need_more() {
    let shown = tempfile::tempdir().unwrap();
    let shown = fs::canonicalize(shown.path()).unwrap();
    // What lies in /tmp would hide in the job's own.
    let text = "command: {path: /usr/bin/env}\nshow: [/etc/hostname]\nnetwork: egress\n\
        gpu: true\nmax_ram_mb: 64\nmax_cpu_secs: 7\n";
    let list = load(&[("x.yaml", text)]).unwrap();
    let program = &list.programs()["x"];
    assert_eq!(program.show, [Path::new("/etc/hostname")]);
    assert_eq!((program.network, program.gpu), (Network::Egress, true));
    assert_eq!((program.max_ram_mb, program.max_cpu_secs), (Some(64), Some(7)));
    let shown = shown.display().to_string();
    for bad in
        ["/", "/proc/1", "/work/x", "/etc/../etc", "etc", "/no/such/file", "/dev/null", &shown]
    {
        let text = format!("command: {{path: /usr/bin/env}}\nshow: [{bad}]");
        assert!(load(&[("x.yaml", &text)]).unwrap_err().why.contains("show"), "{bad}");
    }
}

#[test]
fn nothing_there_allows_nothing() {
    assert!(load(&[]).unwrap().programs().is_empty());
    assert!(Allowlist::load(Path::new("/no/such/directory")).unwrap().programs().is_empty());
    assert!(load(&[("readme.txt", "x")]).unwrap().programs().is_empty());
}

#[test]
fn a_program_that_is_not_installed_is_absent() {
    let list = load(&[("x.yaml", "command: {path: /usr/bin/no-such-program}")]).unwrap();
    assert_eq!(list.absent(), [Path::new("/usr/bin/no-such-program")]);
    assert!(list.check("x", &[]).unwrap_err().contains("not installed"));
    assert!(list.judge("x", &[]).is_ok() && list.judge("y", &[]).is_err());
}

#[test]
fn one_bad_file_voids_the_list() {
    for bad in [
        "command: {path: env}",
        "command: {path: /usr/../usr/bin/env}",
        "command: {path: /usr/bin}",
        "command: {path: /etc/passwd}",
        "command: {path: /usr/bin/env, name: 'a b'}",
        "command: {path: /usr/bin/env, name: ''}",
        "command: {path: /usr//bin/env}",
        "command: {path: /usr/./bin/env}",
        "command: {path: /usr/bin/env}\nargs: [[a, 'a)|(b']]",
        "command: {path: /usr/bin/env}\nargs: [{matches: a, name: b}]",
        "command: {path: /usr/bin/env}\nnetwork: all",
        "command: {path: /usr/bin/env}\nshell: true",
        "command: {path: /usr/bin/env}\nargs: ['-y']",
        "command: {path: /usr/bin/env}\nargs: [[]]",
        "command: {path: /usr/bin/env}\nargs: [[a, b, c]]",
        "command: {path: /usr/bin/env}\nargs: [[a, '(']]",
        "command: {path: /usr/bin/env}\nargs: [[a, '(a{1000}){1000}']]",
        "command: {path: /usr/bin/env}\nmax_runtime: 1",
        "command: {path: /usr/bin/env, name: ffmpeg}",
        "{",
        "",
    ] {
        let error = load(&[("ffmpeg.yaml", FFMPEG), ("z.yaml", bad)]).unwrap_err();
        assert!(error.path.ends_with("z.yaml"), "{bad:?}: {error}");
    }
}

#[test]
fn files_that_others_could_have_written_void_the_list() {
    let writable = directory(&[("ffmpeg.yaml", FFMPEG)]);
    let file = writable.path().join("ffmpeg.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(Allowlist::load(writable.path()).unwrap_err().why.contains("writable"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    assert!(Allowlist::load(writable.path()).unwrap_err().why.contains("writable"));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(writable.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(Allowlist::load(writable.path()).unwrap_err().why.contains("writable"));

    let linked = directory(&[]);
    symlink(&file, linked.path().join("ffmpeg.yaml")).unwrap();
    assert!(Allowlist::load(linked.path()).unwrap_err().why.contains("link"));

    let mut text = FFMPEG.as_bytes().to_vec();
    text.push(0xff);
    fs::write(linked.path().join("no_text.yaml"), text).unwrap();
    fs::remove_file(linked.path().join("ffmpeg.yaml")).unwrap();
    assert!(Allowlist::load(linked.path()).unwrap_err().why.contains("UTF-8"));
    assert!(Allowlist::load(&linked.path().join("no_text.yaml")).is_err());

    let large = directory(&[("x.yaml", &"#".repeat(70_000))]);
    assert!(Allowlist::load(large.path()).unwrap_err().why.contains("larger"));
}

#[test]
fn a_program_that_is_a_link_voids_the_list() {
    let place = tempfile::tempdir().unwrap();
    let link = place.path().join("tool");
    symlink("/usr/bin/env", &link).unwrap();
    let error = load(&[("x.yaml", &format!("command: {{path: {}}}", link.display()))]).unwrap_err();
    assert!(error.why.contains("link"), "{error}");
}

#[test]
fn a_way_that_others_can_change_voids_the_list() {
    let place = tempfile::tempdir().unwrap();
    let open = fs::canonicalize(place.path()).unwrap().join("open");
    fs::create_dir_all(open.join("bin")).unwrap();
    fs::copy("/usr/bin/env", open.join("bin/tool")).unwrap();
    symlink("bin", open.join("link")).unwrap();
    let load =
        |path: &str| load(&[("x.yaml", &format!("command: {{path: {}/{path}}}", open.display()))]);
    assert!(load("bin/tool").is_ok());
    let why = load("link/tool").unwrap_err().why;
    assert!(why.contains("it really is"), "{why}");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o775)).unwrap();
    assert!(load("bin/tool").unwrap_err().why.contains("can be replaced"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(load("bin/tool").unwrap_err().why.contains("can be replaced"));
    let list = open.join("allowlist.d");
    fs::create_dir(&list).unwrap();
    assert!(Allowlist::load(&list).unwrap_err().why.contains("can be replaced"));
}

#[test]
fn the_seeds_call_of_ffmpeg_is_allowed_and_no_other() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/miner/allowlist.d");
    let list = Allowlist::load(&samples).unwrap();
    let judge = |args: &[&str]| {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        list.judge("ffmpeg", &args).map(drop)
    };
    assert_eq!(judge(&["-i", "a.mp4", "output.mp4"]), Ok(()));
    assert_eq!(
        judge(&["-y", "-i", "input/a.wav", "-c:a", "libopus", "-b:a", "96k", "o.ogg"]),
        Ok(())
    );
    for args in [
        &["; rm"][..],
        &["-i", "http://169.254.169.254/a.mp4", "output.mp4"],
        &["-i", "concat:a.mp4|b.mp4", "output.mp4"],
        &["-i", "/etc/passwd.mp4", "output.mp4"],
        &["-vf", "movie=/etc/passwd", "output.mp4"],
        &["-i", "a.mp4", "/tmp/output.mp4"],
    ] {
        assert!(judge(args).is_err(), "{args:?}");
    }
}

#[test]
fn the_samples_are_good() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/miner/allowlist.d");
    let list = Allowlist::load(&samples).unwrap();
    let files = fs::read_dir(samples).unwrap().count();
    assert!(files >= 5 && list.programs().len() + list.absent().len() == files);
}
