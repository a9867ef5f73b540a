//! The workload `hash`: SHA-256 of each input file, or of the inline text, as `sha256sum` prints it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use protocol::Sha256Hex;

use super::JobFacts;
use crate::output;

/// Prints one line per file below `input`, in the job's order; without files, one line for the
/// inline value `text` (or the parameter of that name).
pub(super) fn hash(facts: &JobFacts, input: &Path, out: &mut impl Write) -> io::Result<()> {
    if facts.files.is_empty() {
        let text = facts.inline.get("text").or_else(|| facts.params.get("text"));
        let text = text.and_then(|text| text.as_str());
        let text = text.ok_or_else(|| io::Error::other("neither input files nor inline text"))?;
        return writeln!(out, "{}  -", Sha256Hex::of(text.as_bytes()));
    }
    for name in &facts.files {
        let (sha256, _) = output::hash(File::open(input.join(name))?)?;
        writeln!(out, "{sha256}  {name}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(facts: &JobFacts, input: &Path) -> io::Result<String> {
        let mut out = Vec::new();
        hash(facts, input, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn files_in_order_as_sha256sum_prints_them() {
        let input = tempfile::tempdir().unwrap();
        std::fs::write(input.path().join("b"), "hello world\n").unwrap();
        std::fs::write(input.path().join("a"), "").unwrap();
        let files = vec!["b".to_owned(), "a".to_owned()];
        let text = run(&JobFacts { files, ..JobFacts::default() }, input.path()).unwrap();
        assert_eq!(
            text,
            "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447  b\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n"
        );
    }

    #[test]
    fn inline_text_without_a_name() {
        let inline = json!({"text": "hello world\n"}).as_object().unwrap().clone();
        let text = run(&JobFacts { inline, ..JobFacts::default() }, Path::new("/")).unwrap();
        assert!(text.starts_with("a948904f") && text.ends_with("  -\n"), "{text}");
        assert!(run(&JobFacts::default(), Path::new("/")).is_err());
    }
}
