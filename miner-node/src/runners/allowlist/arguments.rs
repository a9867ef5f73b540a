//! The arguments that a program may be given: what may stand in the list, and what never. Pure.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// The largest compiled expression, in bytes.
const LARGEST_REGEX: usize = 1 << 20;

/// The most arguments of one call.
const MOST_ARGUMENTS: usize = 256;

/// The arguments that are allowed, in any order.
#[derive(Debug)]
pub(super) struct Arguments {
    alternatives: Vec<Alternative>,
    max_total_len: usize,
}

/// One thing that may stand in a list of arguments.
#[derive(Debug)]
enum Alternative {
    Literal(String),
    Option(String, Expression),
    Positional(Expression),
}

/// An expression over a whole argument.
#[derive(Debug)]
struct Expression {
    written: String,
    regex: Regex,
}

/// How an alternative is written in a file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Words(Vec<String>),
    Positional(Positional),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Positional {
    matches: String,
}

impl Arguments {
    pub(super) fn new(entries: Vec<Entry>, max_total_len: usize) -> Result<Self, String> {
        let alternatives = entries.into_iter().map(Alternative::new).collect::<Result<_, _>>()?;
        Ok(Self { alternatives, max_total_len })
    }

    /// Whether `args` are allowed.
    ///
    /// # Errors
    /// The rule that says no, in a sentence.
    pub(super) fn check(&self, args: &[String]) -> Result<(), String> {
        self.check_length(args)?;
        for (number, arg) in (1..).zip(args) {
            check_text(arg)
                .map_err(|why| format!("argument {number} {:?} {why}", shortened(arg)))?;
        }
        // `reached[n]`: the first n arguments are covered. Every way to cover them counts, without
        // the exponential time of trying one after the other.
        let mut reached = vec![false; args.len() + 1];
        reached[0] = true;
        for start in 0..args.len() {
            if reached[start] {
                let lengths = self.alternatives.iter().filter_map(|one| one.covers(&args[start..]));
                for length in lengths {
                    reached[start + length] = true;
                }
            }
        }
        match reached.iter().rposition(|reached| *reached) {
            Some(covered) if covered < args.len() => Err(self.reason(args, covered)),
            _ => Ok(()),
        }
    }

    fn check_length(&self, args: &[String]) -> Result<(), String> {
        if args.len() > MOST_ARGUMENTS {
            return Err(format!("{} arguments; at most {MOST_ARGUMENTS}", args.len()));
        }
        let total = args.iter().fold(0_usize, |sum, arg| sum.saturating_add(arg.len() + 1));
        if total > self.max_total_len {
            let most = self.max_total_len;
            return Err(format!("the arguments are {total} bytes; max_total_args_len is {most}"));
        }
        Ok(())
    }

    /// Why nothing covers the argument at `index`.
    fn reason(&self, args: &[String], index: usize) -> String {
        let (number, arg) = (index + 1, shortened(&args[index]));
        let own = self.alternatives.iter().find_map(|one| match one {
            Alternative::Option(literal, expression) if *literal == args[index] => Some(expression),
            _ => None,
        });
        match (own, args.get(index + 1)) {
            (Some(_), None) => format!("argument {number} {arg:?} needs a value"),
            (Some(expression), Some(value)) => format!(
                "argument {} {:?} is no value for {arg}, which takes {:?}",
                number + 1,
                shortened(value),
                expression.written
            ),
            (None, _) => format!("argument {number} {arg:?} is not on this node's allowlist"),
        }
    }
}

impl Alternative {
    fn new(entry: Entry) -> Result<Self, String> {
        match entry {
            Entry::Positional(positional) => {
                Ok(Self::Positional(Expression::new(positional.matches)?))
            }
            Entry::Words(words) => match <[String; 2]>::try_from(words) {
                Ok([literal, expression]) => {
                    Ok(Self::Option(literal, Expression::new(expression)?))
                }
                Err(words) => match <[String; 1]>::try_from(words) {
                    Ok([literal]) => Ok(Self::Literal(literal)),
                    Err(_) => Err("each of args is [literal] or [literal, expression]".to_owned()),
                },
            },
        }
    }

    /// How many of `args` it covers, if it fits at all.
    fn covers(&self, args: &[String]) -> Option<usize> {
        let first = args.first()?;
        match self {
            Self::Literal(literal) => (first == literal).then_some(1),
            Self::Positional(expression) => {
                // What looks like an option has to be allowed as one.
                (!first.starts_with('-') && expression.regex.is_match(first)).then_some(1)
            }
            Self::Option(literal, expression) => {
                let value = args.get(1)?;
                let fits = !looks_like_option(value) && expression.regex.is_match(value);
                (first == literal && fits).then_some(2)
            }
        }
    }
}

impl Expression {
    /// Over a whole argument, whatever it says itself about its ends.
    fn new(written: String) -> Result<Self, String> {
        // On its own first: `a)|(b` would be one in the brackets below.
        let build = |text: &str| RegexBuilder::new(text).size_limit(LARGEST_REGEX).build();
        let regex = build(&written).and_then(|_| build(&format!(r"\A(?:{written})\z")));
        match regex {
            Ok(regex) => Ok(Self { written, regex }),
            Err(error) => Err(format!("expression {written:?}: {error}")),
        }
    }
}

/// A negative number is a value; `--exec` is one only for a program that reads it so.
fn looks_like_option(value: &str) -> bool {
    value.strip_prefix('-').is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn check_text(arg: &str) -> Result<(), &'static str> {
    if !arg.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err("is not printable ASCII");
    }
    // The sandbox has nothing to climb to; an expression such as `.+` need not know that.
    if arg.split('/').any(|part| part == "..") {
        return Err("leads upwards");
    }
    Ok(())
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
