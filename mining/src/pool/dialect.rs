//! What the stratum dialects have in common: lines in, lines and steps out, without any I/O.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::settings::Address;
use super::{Job, Solution, Verdict};

/// The longest line of a pool, in bytes.
pub const LONGEST_LINE: usize = 64 << 10;

/// How much of a stranger's text is kept, in characters.
const LONGEST_TEXT: usize = 160;

/// How much of a reason is kept, in characters: a stranger's text among words of ours.
const LONGEST_REASON: usize = 400;

/// How many shares are remembered, so that none is sent twice.
const REMEMBERED: usize = 4096;

/// A dialect of stratum, and where one connection stands in it.
pub trait Dialect: Send {
    /// What is said first.
    fn greet(&mut self) -> Request;

    /// What follows from a line of the pool.
    fn hear(&mut self, line: &[u8]) -> Vec<Step>;

    /// How a share is sent, or why it is not.
    fn submit(&mut self, solution: &Solution) -> Submission;

    /// The same job with nonces that were not tried yet, where there are any.
    fn more(&mut self, job: u64) -> Option<Job>;

    /// The question whether the pool is still there, where it understands one.
    fn keep_alive(&mut self) -> Option<Request>;
}

/// A line for the pool, without its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The number of the question; `None` where no answer comes.
    pub id: Option<u64>,
    /// The line.
    pub line: String,
}

impl fmt::Debug for Request {
    /// Without the line: the login is in one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What follows from something that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This is to be said.
    Send(Request),
    /// There is other work.
    Job(Job),
    /// A question was answered; where it was a share, this became of it.
    Replied {
        /// [`Request::id`].
        id: u64,
        /// What it means for a share.
        verdict: Verdict,
    },
    /// There is nothing more to say to this pool.
    End(Fault),
}

/// What becomes of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// It is sent.
    Send(Request),
    /// It is not.
    Settled(Verdict),
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In words.
    pub reason: String,
    /// When to come again.
    pub wait: Wait,
}

/// When a pool is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// After the usual pause.
    Usual,
    /// After a long one: it has banned us.
    Banned,
    /// It asked us to come again, there and then.
    Redirected {
        /// Where.
        address: Address,
        /// After how long.
        after: Duration,
    },
}

impl Fault {
    /// One after which the pool is tried again as usual.
    pub fn new(reason: impl AsRef<str>) -> Self {
        // Whatever a stranger had a part in: it goes to terminals and logs.
        Self { reason: plain(reason.as_ref(), LONGEST_REASON), wait: Wait::Usual }
    }
}

/// What a pool says when it does not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its own number for that, where it has one.
    pub code: Option<i64>,
    /// In its words, cut and without control characters.
    pub message: String,
}

impl Refusal {
    /// A refusal in `message`, a stranger's text.
    pub fn new(code: Option<i64>, message: &str) -> Self {
        let message = match told(message) {
            empty if empty.is_empty() => "no reason given".to_owned(),
            message => message,
        };
        Self { code, message }
    }

    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }

    /// The pool has banned us.
    pub fn is_ban(&self) -> bool {
        self.says(&["banned"])
    }

    /// The share came too late.
    pub fn is_stale(&self) -> bool {
        self.says(&["stale", "block expired", "job not found"])
    }

    /// The pool has lost us: only a new login helps. The texts are those that XMRig knows.
    pub fn needs_login(&self) -> bool {
        self.is_ban() || self.says(&["unauthenticated", "invalid job id"])
    }

    /// What it means for a share.
    pub fn verdict(&self) -> Verdict {
        match self.is_stale() {
            true => Verdict::Stale,
            false => Verdict::Rejected(self.message.clone()),
        }
    }

    /// The end of a connection because of it.
    pub fn fault(&self, what: &str) -> Fault {
        let wait = if self.is_ban() { Wait::Banned } else { Wait::Usual };
        Fault { reason: format!("{what}: {}", self.message), wait }
    }
}

/// A line that is none of the dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pool sent what is no {what}: {why}")]
pub struct Malformed {
    what: &'static str,
    why: String,
}

impl Malformed {
    /// Something that should have been `what`.
    pub fn new(what: &'static str, why: &impl ToString) -> Self {
        Self { what, why: told(&why.to_string()) }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::new(malformed.to_string())
    }
}

/// A stranger's text, fit to be shown: cut, in one line.
pub fn told(text: &str) -> String {
    plain(text, LONGEST_TEXT)
}

fn plain(text: &str, longest: usize) -> String {
    let is_shown = |letter: &char| !letter.is_control() && !is_format(*letter);
    text.trim().chars().filter(is_shown).take(longest).collect()
}

/// Whether a letter is not seen itself, but changes how others are: turns their order round, ends a
/// line, hides. Of Unicode's classes Cf, Zl and Zp what a terminal may act on.
const fn is_format(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Numbers of jobs, and of what is added to them for new nonces. Clones count on together.
#[derive(Debug, Clone, Default)]
pub struct Numbers(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    jobs: AtomicU64,
    extra: AtomicU64,
}

impl Numbers {
    /// Those whose extra nonces begin at `extra`.
    pub fn with_extra(extra: u64) -> Self {
        Self(Arc::new(Counters { extra: extra.into(), ..Counters::default() }))
    }

    /// The next one.
    pub fn take(&self) -> u64 {
        self.0.jobs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Behind all extra nonces that were used so far, on whatever connection: a pool may well give
    /// the next one the same bytes, and those who try a nonce twice are banned.
    pub fn next_extra(&self) -> u64 {
        self.0.extra.load(Ordering::Relaxed)
    }

    /// The extra nonce before `next` is in use.
    pub fn used_extra(&self, next: u64) {
        self.0.extra.fetch_max(next, Ordering::Relaxed);
    }
}

/// Which shares were sent on one connection. A pool may hand out the same bytes again under another
/// name; the same nonce in them is the same share, and pools ban those who send one twice.
#[derive(Debug, Default)]
pub struct Sent {
    known: HashSet<(u64, u32)>,
    order: VecDeque<(u64, u32)>,
}

impl Sent {
    /// Remembers a share; `false` where it was known.
    pub fn insert(&mut self, work: &[u8], nonce: u32) -> bool {
        let mut hasher = DefaultHasher::new();
        work.hash(&mut hasher);
        let share = (hasher.finish(), nonce);
        if !self.known.insert(share) {
            return false;
        }
        self.order.push_back(share);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// What every dialect looks at before it sends a share: that it is one, and a new one.
pub fn inspect(job: &Job, solution: &Solution, sent: &mut Sent) -> Result<(), Verdict> {
    if !job.work.target.is_met_by(&solution.hash) {
        return Err(Verdict::Rejected("not below the target, so not sent".to_owned()));
    }
    if !sent.insert(job.work.blob(), solution.nonce) {
        return Err(Verdict::Rejected("found twice, so not sent again".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_is_cut_and_plain() {
        assert_eq!(told(" a\n\u{1b}[31mb\0 "), "a[31mb");
        assert_eq!(
            told("a\u{9b}2J\u{202e}b\u{2066}c\u{200b}d\u{feff}e\u{2028}f\u{e0041}"),
            "a2Jbcdef"
        );
        assert_eq!(told(&"é".repeat(1000)).chars().count(), LONGEST_TEXT);
        assert_eq!(Refusal::new(None, "\n").message, "no reason given");
    }

    #[test]
    fn the_reason_of_an_end_is_cut_and_plain() {
        let fault = Fault::new(format!("it says \u{1b}]0;{}", "x".repeat(60_000)));
        assert!(fault.reason.starts_with("it says ]0;xx"), "{}", fault.reason);
        assert_eq!(fault.reason.len(), LONGEST_REASON);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refusal = |message| Refusal::new(None, message);
        assert!(refusal("your IP is banned").is_ban());
        assert!(refusal("IP Address currently banned").needs_login());
        assert!(refusal("Unauthenticated").needs_login());
        assert!(refusal("Invalid job id").needs_login());
        assert!(!refusal("Low difficulty share").needs_login());
        assert_eq!(refusal("Stale share").verdict(), Verdict::Stale);
        assert_eq!(refusal("Block expired").verdict(), Verdict::Stale);
        assert_eq!(refusal("Invalid PoW").verdict(), Verdict::Rejected("Invalid PoW".into()));
    }

    #[test]
    fn a_share_is_remembered_for_a_while() {
        let mut sent = Sent::default();
        assert!(sent.insert(b"a", 1));
        assert!(!sent.insert(b"a", 1));
        assert!(sent.insert(b"b", 1));
        for nonce in 0..u32::try_from(REMEMBERED).unwrap() {
            sent.insert(b"c", nonce);
        }
        assert!(sent.insert(b"a", 1));
        assert_eq!(sent.known.len(), REMEMBERED);
    }
}
