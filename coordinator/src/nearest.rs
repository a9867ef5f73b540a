//! The name that somebody probably meant who wrote another.

/// Of some known names, the one that is close enough to `name` to be a slip.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 2)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["state", "since", "limit"];
        assert_eq!(nearest("stat", known), Some("state"));
        assert_eq!(nearest("sicne", known), Some("since"));
        assert_eq!(nearest("workload", known), None);
    }
}
