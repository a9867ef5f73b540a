//! Where the API key comes from: the value itself, a variable, a file, or a credential that the
//! service manager hands over. Of value and file, the one set in the stronger place counts.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use figment::value::Value;

use super::environment::Environment;
use super::error::ConfigError;
use super::keys;
use super::origin::Origin;
use super::setting::Setting;
use super::sources::Collected;

const VALUE: &str = "coordinator.auth_token";
const FILE: &str = "coordinator.auth_token_file";

/// No API key is longer.
const MAX_BYTES: u64 = 4096;

/// The name under which systemd hands the key over: `LoadCredential=api_key:/path`.
const CREDENTIAL: &str = "api_key";

/// The file of the systemd credential, if there is one.
pub fn credential(environment: &Environment) -> Option<Setting> {
    let path = Path::new(environment.get("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    let key = keys::by_path(FILE)?;
    // systemd hands over a blank one where the owner has put none there.
    let is_blank = |text: String| text.trim().is_empty();
    let given = path.exists() && !std::fs::read_to_string(&path).is_ok_and(is_blank);
    given.then(|| Setting {
        key,
        value: Value::from(path.to_string_lossy().into_owned()),
        origin: Origin::Environment("CREDENTIALS_DIRECTORY".to_owned()),
    })
}

/// Replaces all settings of value and file by the one that counts, with its text in it.
///
/// # Errors
/// A file or variable that is named but is not there.
pub fn resolve(collected: &mut Collected, environment: &Environment) -> Result<(), ConfigError> {
    let Some(strongest) = collected
        .settings
        .iter()
        .rev()
        .find(|setting| setting.key.path == VALUE || setting.key.path == FILE)
        .cloned()
    else {
        return Ok(());
    };
    if strongest.key.path == FILE {
        let token = read_file(collected, &strongest)?;
        collected.settings.retain(|setting| setting.key.path != VALUE);
        if let Some(key) = keys::by_path(VALUE) {
            let origin = Origin::File { path: file_of(&strongest), line: None };
            collected.settings.push(Setting { key, value: Value::from(token), origin });
        }
        return Ok(());
    }
    collected.settings.retain(|setting| setting.key.path != FILE);
    if let Some(name) = strongest.text().and_then(|text| text.strip_prefix("env:")) {
        let token = environment.get(name).ok_or_else(|| ConfigError::Value {
            key: VALUE.to_owned(),
            origin: strongest.origin.clone(),
            message: format!("the environment variable {name} is not set"),
        })?;
        let origin = Origin::Environment(name.to_owned());
        collected.settings.push(Setting { value: Value::from(token), origin, ..strongest });
    }
    Ok(())
}

fn file_of(setting: &Setting) -> PathBuf {
    PathBuf::from(setting.text().unwrap_or_default())
}

fn read_file(collected: &mut Collected, setting: &Setting) -> Result<String, ConfigError> {
    let path = file_of(setting);
    let wrong = |message: String| ConfigError::Value {
        key: FILE.to_owned(),
        origin: setting.origin.clone(),
        message,
    };
    let unreadable = |error| ConfigError::Unreadable { path: path.clone(), error };
    let file = File::open(&path).map_err(unreadable)?;
    // A credential's mode is the service manager's affair (an ACL shows as group access).
    if setting.origin != Origin::Environment("CREDENTIALS_DIRECTORY".to_owned()) {
        warn_if_readable_by_others(&path, &file, &mut collected.warnings);
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    match token {
        "" => Err(wrong(format!("{} is empty", path.display()))),
        _ if text.len() as u64 > MAX_BYTES => {
            Err(wrong(format!("{} is longer than {MAX_BYTES} bytes", path.display())))
        }
        token => Ok(token.to_owned()),
    }
}

/// Says so when others than the owner can read or change a file that holds a secret.
pub fn warn_if_readable_by_others(path: &Path, file: &File, warnings: &mut Vec<String>) {
    let Ok(metadata) = file.metadata() else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warnings.push(format!(
            "{} holds a secret and is open to others (mode {mode:03o}); run: chmod 600 {}",
            path.display(),
            path.display()
        ));
    }
}
