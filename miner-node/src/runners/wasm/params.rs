//! What a client says about a WebAssembly job.

use std::collections::BTreeMap;

use protocol::{FailureCode, Job};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::Refusal;

/// The module's name among the input files, where a job does not name it.
const USUAL_MODULE: &str = "module.wasm";

/// The most variables of the environment.
const MOST_VARIABLES: usize = 64;

/// The most arguments.
const MOST_ARGUMENTS: usize = 256;

/// The longest that all arguments, or all variables, may be together, in bytes.
const LONGEST: usize = 64 << 10;

/// The parameters of a job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The module's name among the input files.
    #[serde(default = "usual_module")]
    pub(super) module: String,
    /// Its environment.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Where its random numbers come from.
    #[serde(default)]
    pub(super) seed: u64,
}

fn usual_module() -> String {
    USUAL_MODULE.to_owned()
}

impl Params {
    /// Those of a job, out of its `params`.
    ///
    /// # Errors
    /// [`FailureCode::Input`] with what is wrong.
    pub(super) fn read(params: &Map<String, Value>) -> Result<Self, Refusal> {
        let refuse = |why: String| Err(Refusal::new(FailureCode::Input, format!("params: {why}")));
        let params: Self = match Self::deserialize(Value::Object(params.clone())) {
            Ok(params) => params,
            Err(error) => return refuse(error.to_string()),
        };
        if params.env.len() > MOST_VARIABLES {
            return refuse(format!("env has more than {MOST_VARIABLES} variables"));
        }
        let texts = params.env.iter().flat_map(|(name, value)| [name, value]);
        if let Err(why) = fitting(texts) {
            return refuse(format!("env {why}"));
        }
        match params.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            Some(name) => refuse(format!("env: {name:?} is no name of a variable")),
            None => Ok(params),
        }
    }
}

/// Checks what else of `job` counts: that its module is one of its files, and its arguments.
///
/// # Errors
/// [`FailureCode::Input`] with what is wrong.
pub(super) fn check(params: &Params, job: &Job) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(FailureCode::Input, why));
    if !job.input.files.iter().any(|file| file.name.as_str() == params.module) {
        return refuse(format!("the module {:?} is not among the input files", params.module));
    }
    if job.args.len() > MOST_ARGUMENTS {
        return refuse(format!("args: more than {MOST_ARGUMENTS}"));
    }
    fitting(job.args.iter()).or_else(|why| refuse(format!("args {why}")))
}

fn fitting<'a>(texts: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut room = LONGEST;
    for text in texts {
        if text.contains('\0') {
            return Err("must not contain U+0000".to_owned());
        }
        room = room.checked_sub(text.len()).ok_or("is longer than 64 KiB in all")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(params: Value) -> Result<Params, Refusal> {
        Params::read(params.as_object().unwrap())
    }

    #[test]
    fn nothing_need_be_said() {
        let params = read(json!({})).unwrap();
        assert_eq!((params.module.as_str(), params.seed, params.env.len()), ("module.wasm", 0, 0));
    }

    #[test]
    fn what_cannot_be_is_an_input_error_that_says_why() {
        let many: Map<String, Value> = (0..65).map(|n| (format!("V{n}"), "x".into())).collect();
        for (params, part) in [
            (json!({"modul": "x"}), "unknown field `modul`"),
            (json!({"module": 7}), "expected a string"),
            (json!({"seed": -1}), "expected u64"),
            (json!({"env": {"A=B": "c"}}), "no name of a variable"),
            (json!({"env": {"": "c"}}), "no name of a variable"),
            (json!({"env": {"A": "b\0c"}}), "U+0000"),
            (json!({"env": {"A": "x".repeat(LONGEST)}}), "64 KiB"),
            (json!({"env": many}), "more than 64"),
        ] {
            let refusal = read(params).unwrap_err();
            assert_eq!(refusal.code, FailureCode::Input);
            assert!(refusal.message.contains(part), "{refusal}");
        }
    }

    #[test]
    fn the_module_comes_with_the_job() {
        let mut job = crate::runners::tests::job("wasm");
        let params = read(json!({})).unwrap();
        let why = check(&params, &job).unwrap_err();
        assert!(why.message.contains("\"module.wasm\" is not among the input files"), "{why}");
        let file = json!({"name": "module.wasm", "sha256": "0".repeat(64)});
        job.input.files.push(serde_json::from_value(file).unwrap());
        assert_eq!(check(&params, &job), Ok(()));
        job.args = vec!["x\0".to_owned()];
        assert!(check(&params, &job).unwrap_err().message.contains("U+0000"));
    }
}
