//! What is written about the program, held against it.

use aitbc::cli::Cli;
use aitbc::profile::Profiles;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};

use crate::program::Program;

const DOCUMENT: &str = include_str!("../../../docs/cli.md");
const SAMPLE: &str = include_str!("../../../etc/aitbc.yaml");

/// The reference, as `docs/cli.md` has it after its introduction.
fn reference() -> String {
    let mut text = String::new();
    walk(&Cli::command(), "", &mut text);
    text
}

fn walk(command: &Command, path: &str, text: &mut String) {
    let name = format!("{path} {}", command.get_name()).trim().to_owned();
    let help = command.clone().bin_name(&name).color(clap::ColorChoice::Never).render_long_help();
    let help = help.to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("### {name}\n\n```text\n{}\n```\n\n", lines.join("\n").trim_end()));
    for sub in command.get_subcommands() {
        walk(sub, &name, text);
    }
}

/// `AITBC_WRITE_DOCS=1 cargo test -p aitbc documents` writes the reference anew.
#[test]
fn the_reference_is_what_help_says() {
    let (introduction, found) = DOCUMENT.split_once("## Reference\n\n").unwrap();
    let wanted = reference();
    if std::env::var_os("AITBC_WRITE_DOCS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let text = format!("{introduction}## Reference\n\n{}\n", wanted.trim_end());
        std::fs::write(path, text).unwrap();
        return;
    }
    assert_eq!(found.trim_end(), wanted.trim_end());
}

const WRITTEN: &[(&str, &str)] = &[
    ("README.md", include_str!("../../../README.md")),
    ("client.md", include_str!("../../../docs/client.md")),
    ("retries.md", include_str!("../../../docs/retries.md")),
    ("operate.md", include_str!("../../../docs/operate.md")),
    ("protocol.md", include_str!("../../../docs/protocol.md")),
    ("cli.md", DOCUMENT),
];

/// The lines of `text` that call the program: those of shell blocks, and code in sentences.
fn calls(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        let lines: Vec<String> = match (index % 2, part.strip_prefix("bash\n")) {
            (1, Some(block)) => block.replace("\\\n", " ").lines().map(str::to_owned).collect(),
            (1, None) => continue,
            _ => part.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")).collect(),
        };
        found.extend(lines.into_iter().filter(|line| line.starts_with("aitbc ")));
    }
    found
}

/// As a shell parts them, without its comment. `ID` and `KEY` stand for any; `[..]` may be left out.
fn words(line: &str) -> Vec<String> {
    let code = line.split(" #").next().unwrap_or_default();
    let code = code.split([';', '|', '>']).next().unwrap_or_default();
    let mut words = Vec::new();
    for (index, part) in code.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        let plain = part.replace(['[', ']'], "");
        words.extend(plain.split_whitespace().map(|word| match word {
            "ID" => "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            "KEY" => "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
            word => word.to_owned(),
        }));
    }
    words
}

#[test]
fn what_is_written_can_be_typed() {
    let mut count = 0;
    for (name, text) in WRITTEN {
        for line in calls(text.split("## Reference\n").next().unwrap()) {
            count += 1;
            let Err(error) = Cli::try_parse_from(words(&line)) else { continue };
            // The name of a group of commands is no call, and no mistake.
            let group = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            assert_eq!(error.kind(), group, "{name}: {line}: {error}");
        }
    }
    assert!(count >= 15, "{count}");
}

#[test]
fn exit_codes_are_the_documented_ones() {
    for ending in aitbc::ending::Ending::ALL {
        let row = format!("| {} | {} |", ending.code(), ending.meaning());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}

#[test]
fn the_sample_is_a_profile_file() {
    let profiles = Profiles::parse(SAMPLE).unwrap();
    assert_eq!(profiles.default.as_deref(), Some("local"));
    assert_eq!(profiles.profiles.keys().collect::<Vec<_>>(), ["local", "market"]);
    // Every key has a line in it, set or as a comment.
    for key in [
        "url",
        "key",
        "key_file",
        "ca_file",
        "client_cert_file",
        "allow_insecure",
        "coordinator_keys",
    ] {
        let lines = SAMPLE.lines().map(|line| line.trim_start().trim_start_matches("# "));
        assert!(lines.clone().any(|line| line.starts_with(&format!("{key}:"))), "{key}");
    }
}

#[tokio::test]
async fn completions_are_scripts() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.run(&["completions", shell]).await.ok();
        assert!(script.contains("artifacts") && script.contains("capacities"), "{shell}");
        program.file(&format!("completions.{shell}"), &script, 0o644);
    }
    assert!(bash(&program, "-n completions.bash").await);
    // And it completes.
    let ask = "-c 'source completions.bash; COMP_WORDS=(aitbc cap); COMP_CWORD=1; \
               _aitbc aitbc cap aitbc; [[ ${COMPREPLY[*]} == capacities ]]'";
    assert!(bash(&program, ask).await);
}

#[expect(clippy::disallowed_methods, reason = "a shell judges its own language")]
async fn bash(program: &Program, words: &str) -> bool {
    let mut command = tokio::process::Command::new("bash");
    command.arg("-c").arg(format!("bash {words}")).current_dir(program.path("."));
    command.status().await.unwrap().success()
}
