//! The grammar of `miner.conf`: lines of `KEY=value`, and what a value may hold.
//!
//! A value may be quoted, may be followed by a comment, and may hold `$(hostname)` and `${VAR}`.
//! Nothing else is expanded and nothing is ever run. The values of environment variables are read
//! by the same rules, because systemd hands `EnvironmentFile` values over with their comments.

/// A line that sets something.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// Its number, from 1.
    pub line: usize,
    /// What it sets.
    pub name: &'a str,
    /// What follows the equals sign, as it stands.
    pub raw: &'a str,
}

/// Why a line or a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The line is neither a comment nor an assignment.
    #[error("expected KEY=value")]
    NoAssignment,
    /// A quote has no end.
    #[error("the opening {0} has no closing {0}")]
    OpenQuote(char),
    /// Something other than a comment follows a quoted value.
    #[error("unexpected text after the closing quote (a comment needs a blank before '#')")]
    AfterQuote,
    /// `${` without `}`.
    #[error("the opening ${{ has no closing }}")]
    OpenVariable,
    /// A variable that is not set.
    #[error("${{{0}}} is not set")]
    Unset(String),
}

/// The assignments of a file, each with its line, or the lines that are none.
pub fn assignments(
    text: &str,
) -> impl Iterator<Item = Result<Assignment<'_>, (usize, GrammarError)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        let number = index + 1;
        if line.is_empty() || line.starts_with(['#', ';']) {
            return None;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        Some(match line.split_once('=') {
            Some((name, raw)) if is_name(name.trim_end()) => {
                Ok(Assignment { line: number, name: name.trim_end(), raw })
            }
            _ => Err((number, GrammarError::NoAssignment)),
        })
    })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A value with everything expanded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The value.
    pub text: String,
    /// What looked like a command and was left as it is, for a warning.
    pub left_alone: Vec<String>,
}

/// What `$(hostname)` and `${VAR}` stand for.
pub trait Names {
    /// The name of this machine.
    fn hostname(&self) -> &str;
    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<String>;
}

/// Reads a value as it stands in a file: quotes, a comment behind it, and [`expand`].
///
/// # Errors
/// What is wrong with it.
pub fn value(raw: &str, names: &impl Names) -> Result<Expanded, GrammarError> {
    let raw = raw.trim();
    match raw.chars().next() {
        Some('"') => {
            let (inside, rest) = split_double_quoted(&raw[1..])?;
            only_comment(rest)?;
            scan(inside, true, names)
        }
        Some('\'') => {
            let (inside, rest) = raw[1..].split_once('\'').ok_or(GrammarError::OpenQuote('\''))?;
            only_comment(rest)?;
            scan(inside, false, names)
        }
        _ => scan(before_comment(raw), false, names),
    }
}

/// A value as it stands in a file, without quotes and without the comment behind it; nothing is
/// expanded, and `None` where it is broken.
pub fn plain(raw: &str) -> Option<&str> {
    let raw = raw.trim();
    match raw.chars().next() {
        Some('"') => split_double_quoted(&raw[1..]).ok().map(|(inside, _)| inside),
        Some('\'') => raw[1..].split_once('\'').map(|(inside, _)| inside),
        _ => Some(before_comment(raw)),
    }
}

/// Expands `$(hostname)` and `${VAR}` in a value that needs no unquoting.
///
/// # Errors
/// A variable that is not set or not closed.
pub fn expand(text: &str, names: &impl Names) -> Result<Expanded, GrammarError> {
    scan(text, false, names)
}

/// Up to the first quote that no backslash precedes, and what follows it.
fn split_double_quoted(text: &str) -> Result<(&str, &str), GrammarError> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Ok((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    Err(GrammarError::OpenQuote('"'))
}

fn only_comment(rest: &str) -> Result<(), GrammarError> {
    let comment = rest.trim_start();
    let blank_before = comment.len() < rest.len();
    if comment.is_empty() || (blank_before && comment.starts_with('#')) {
        Ok(())
    } else {
        Err(GrammarError::AfterQuote)
    }
}

/// A `#` begins a comment where a blank or nothing precedes it.
fn before_comment(raw: &str) -> &str {
    let start = raw.char_indices().find(|(at, c)| {
        *c == '#' && raw[..*at].chars().next_back().is_none_or(char::is_whitespace)
    });
    raw[..start.map_or(raw.len(), |(at, _)| at)].trim_end()
}

fn scan(text: &str, escapes: bool, names: &impl Names) -> Result<Expanded, GrammarError> {
    let mut done = Expanded::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if escapes && c == '\\' && rest[1..].starts_with(['"', '\\', '$', '`']) {
            done.text.push_str(&rest[1..2]);
            rest = &rest[2..];
        } else if let Some(variable) = rest.strip_prefix("${") {
            let (name, after) = variable.split_once('}').ok_or(GrammarError::OpenVariable)?;
            let value = names.variable(name).ok_or_else(|| GrammarError::Unset(name.to_owned()))?;
            done.text.push_str(&value);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("$(hostname)") {
            done.text.push_str(names.hostname());
            rest = after;
        } else {
            if rest.starts_with("$(") || c == '`' {
                let end = rest.find(')').map_or(rest.len(), |at| at + 1);
                done.left_alone.push(if c == '`' {
                    "`".to_owned()
                } else {
                    rest[..end].to_owned()
                });
            }
            done.text.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Host;

    impl Names for Host {
        fn hostname(&self) -> &str {
            "rig7"
        }

        fn variable(&self, name: &str) -> Option<String> {
            (name == "MINER_API_KEY").then(|| "k1.secret".to_owned())
        }
    }

    fn text(raw: &str) -> String {
        value(raw, &Host).unwrap().text
    }

    #[test]
    fn quotes_and_comments() {
        for (raw, expected) in [
            ("20               # Health ping interval", "20"),
            (r#""https://c.example.net"      # Coordinator base URL"#, "https://c.example.net"),
            ("\"key\"\t# Wallet\u{2011}issued key", "key"),
            ("'a # b'", "a # b"),
            ("a#b", "a#b"),
            ("# nothing", ""),
            ("", ""),
            ("  spaced out  ", "spaced out"),
            (r#""say \"hi\" \\ \n""#, r#"say "hi" \ \n"#),
            (r#""\$(hostname)""#, "$(hostname)"),
        ] {
            assert_eq!(text(raw), expected, "{raw}");
        }
    }

    #[test]
    fn expands_two_things_only() {
        assert_eq!(text("\"$(hostname)-gpu0\""), "rig7-gpu0");
        assert_eq!(text("'${MINER_API_KEY}'"), "k1.secret");
        assert_eq!(text("$HOME"), "$HOME");
        let left = value("$(id)-`id`", &Host).unwrap();
        assert_eq!(left.text, "$(id)-`id`");
        assert_eq!(left.left_alone, ["$(id)", "`", "`"]);
    }

    #[test]
    fn what_a_variable_holds_is_not_expanded_again() {
        struct Nested;
        impl Names for Nested {
            fn hostname(&self) -> &str {
                ""
            }
            fn variable(&self, _: &str) -> Option<String> {
                Some("${A}$(id)".to_owned())
            }
        }
        let once = value("${A}", &Nested).unwrap();
        assert_eq!((once.text.as_str(), once.left_alone.len()), ("${A}$(id)", 0));
    }

    #[test]
    fn refuses_what_is_broken() {
        for (raw, error) in [
            ("\"open", GrammarError::OpenQuote('"')),
            ("'open", GrammarError::OpenQuote('\'')),
            ("\"a\" b", GrammarError::AfterQuote),
            ("\"a\"# b", GrammarError::AfterQuote),
            ("${OPEN", GrammarError::OpenVariable),
            ("${NOBODY_SET_IT}", GrammarError::Unset("NOBODY_SET_IT".to_owned())),
        ] {
            assert_eq!(value(raw, &Host), Err(error), "{raw}");
        }
    }

    #[test]
    fn lines() {
        let file = "\u{feff}# c\r\n\r\nexport A=1\n B = 2 # c\n; c\nnonsense\n1A=3\n";
        let lines: Vec<_> = assignments(file).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], Ok(Assignment { line: 3, name: "A", raw: "1" }));
        assert_eq!(lines[1], Ok(Assignment { line: 4, name: "B", raw: " 2 # c" }));
        assert_eq!(lines[2], Err((6, GrammarError::NoAssignment)));
        assert_eq!(lines[3], Err((7, GrammarError::NoAssignment)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(raw in "\\PC{0,40}") {
            let _ = value(&raw, &Host);
            let _: Vec<_> = assignments(&raw).collect();
        }

        #[test]
        fn plain_text_survives_quoting(plain in "[a-zA-Z0-9 #'./:-]{0,30}") {
            prop_assert_eq!(text(&format!("\"{plain}\" # c")), plain);
        }
    }
}
