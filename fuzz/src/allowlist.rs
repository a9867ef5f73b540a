//! What a node's owner allows, and what a client asks for.

use std::fs;

use miner_node::runners::Allowlist;

use crate::files;

/// The line between the file and the arguments that are tried on it.
const LINE: &str = "\n---\n";

/// A file of `allowlist.d`; below a line `---` the arguments of a call, one on each line.
pub fn allowlist(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (file, args) = text.split_once(LINE).unwrap_or((text, ""));
    let path = files::put("allowlist.d/tool.yaml", file.as_bytes());
    let directory = path.parent().expect("it is in a directory");
    let args: Vec<String> = args.lines().map(str::to_owned).collect();
    let Ok(list) = Allowlist::load(directory) else { return };
    assert!(list.programs().len() + list.absent().len() <= 1);
    for (name, program) in list.programs() {
        assert!(program.path.is_absolute() && fs::symlink_metadata(&program.path).is_ok());
        if list.check(name, &args).is_ok() {
            assert!(args.len() <= 256);
            for arg in &args {
                assert!(arg.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{arg:?}");
                assert!(arg.split('/').all(|part| part != ".."), "{arg:?}");
            }
        }
        assert!(list.check(name, &["\0".to_owned()]).is_err());
        assert!(list.check(name, &["../x".to_owned()]).is_err());
    }
    assert!(list.check("another", &args).is_err());
}
