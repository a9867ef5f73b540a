//! Text from elsewhere, made safe to print: nobody's log moves the cursor or writes a title.

/// `text` on one line, without control characters.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) || c == '\n' || c == '\t' { ' ' } else { c }).collect()
}

/// `text` without control characters other than line ends and tabs.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Controls, and what turns the direction of writing.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_pass() {
        assert_eq!(printable("a\x1b[2J\tb\nc\u{202e}d"), "a [2J b c d");
        assert_eq!(printable_lines("a\x1b[2J\tb\nc\r"), "a\u{fffd}[2J\tb\nc\u{fffd}");
    }
}
