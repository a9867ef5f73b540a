//! The words of the answers: counts, lists, times. Pure.

use std::collections::BTreeMap;

use protocol::Timestamp;

/// The most names that one sentence lists.
const MAX_NAMES: usize = 8;

/// "1 job", "2 jobs".
pub(super) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The most frequent names, and how many more there are; `None` where there is none.
pub(super) fn names(names: &BTreeMap<&str, u64>) -> Option<String> {
    let mut by_count: Vec<_> = names.iter().collect();
    by_count.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
    let shown: Vec<&str> = by_count.iter().take(MAX_NAMES).map(|(name, _)| **name).collect();
    let more = by_count.len().saturating_sub(MAX_NAMES);
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

/// How long ago something was, to the unit in which people say it.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> String {
    match now.since(then).as_secs() {
        secs @ 0..120 => format!("{secs} s ago"),
        secs @ 120..7_200 => format!("{} min ago", secs / 60),
        secs => format!("{} h ago", secs / 3_600),
    }
}

/// A failure's code and sentence, as one text.
pub(super) fn failure(code: &str, message: &str) -> String {
    if message.is_empty() { code.to_owned() } else { format!("{code}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_their_unit() {
        let now = Timestamp::from_micros(1_000_000_000_000);
        for (secs, text) in [(0, "0 s ago"), (119, "119 s ago"), (300, "5 min ago")] {
            assert_eq!(ago(now, now.plus_secs(-secs)), text);
        }
        assert_eq!(ago(now, now.plus_secs(-7_200)), "2 h ago");
    }

    #[test]
    fn lists_name_the_most_frequent_and_stay_short() {
        assert_eq!(names(&BTreeMap::new()), None);
        let few = BTreeMap::from([("a", 1), ("b", 3)]);
        assert_eq!(names(&few).unwrap(), "b, a");
        let many: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
        let many = many.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(names(&many).unwrap(), "n0, n1, n2, n3, n4, n5, n6, n7 and 2 more");
    }
}
