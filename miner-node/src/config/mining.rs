//! The section `mining`: what idle processors mine, for whom, and with what.

use std::path::PathBuf;

use ::mining::Algorithm;
use ::mining::policy::Rules;
use ::mining::pool::{self, Address, BadAddress, BadFingerprint};
use serde::{Deserialize, Serialize};

use super::{BaseUrl, Secret};

/// What idle processors mine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mining {
    /// Whether they do.
    pub enabled: bool,
    /// What mines.
    pub engine: EngineKind,
    /// What is computed where neither pool nor job say; absent: what the job says.
    pub algo: Option<Algorithm>,
    /// The pools, those that count more first.
    pub pools: Vec<Pool>,
    /// Threads at most; absent: as many as the last-level caches feed.
    pub threads: Option<u16>,
    /// On what pages the dataset lies.
    pub pages: PagesKind,
    /// Never with a dataset: little memory, and slow.
    pub light: bool,
    /// Memory of compiled programs is never writable and executable at once.
    pub secure_jit: bool,
    /// Who goes first where there is more to do than processors.
    pub priority: PriorityKind,
    /// The owner's XMRig.
    pub xmrig: Xmrig,
    /// When, and with how much.
    pub policy: Rules,
}

/// Who goes first where there is more to do than processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PriorityKind {
    /// Everybody else.
    #[default]
    Idle,
    /// Nobody.
    Normal,
}

/// What mines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The node itself.
    #[default]
    Native,
    /// The owner's XMRig.
    Xmrig,
}

/// On what pages a dataset lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PagesKind {
    /// Large ones that the kernel puts together.
    #[default]
    Thp,
    /// Huge ones that the node, as root, permits the kernel to put together.
    Surplus,
    /// Huge ones that the owner has reserved (`sysctl vm.nr_hugepages`).
    Reserved,
    /// Small ones: 0.6 of the hashrate.
    Small,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// `stratum+ssl://HOST:PORT`, `stratum+tcp://`, `daemon+http://`, `daemon+https://`.
    pub url: String,
    /// The login there, mostly a wallet.
    pub user: String,
    /// What the pool takes for a password; absent: `x`, or what `password_file` holds.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file that holds it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The rig's name there.
    #[serde(default)]
    pub rig_id: Option<String>,
    /// The SHA-256 of the only certificate that is believed.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
    /// Keep an idle connection alive, whatever the pool says it understands.
    #[serde(default)]
    pub keepalive: bool,
    /// The pool is a proxy that keeps the uppermost byte of the nonce.
    #[serde(default)]
    pub nicehash: bool,
    /// What is computed for it; absent: `mining.algo`.
    #[serde(default)]
    pub algo: Option<Algorithm>,
}

/// The owner's XMRig: a program that the node starts, or one that runs already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xmrig {
    /// The program to start.
    pub path: Option<PathBuf>,
    /// The HTTP API of one that runs already.
    pub url: Option<BaseUrl>,
    /// A file that holds its access token.
    pub token_file: Option<PathBuf>,
    /// What a started one donates to its authors, in per cent.
    pub donate_level: u8,
}

impl Default for Xmrig {
    fn default() -> Self {
        // XMRig's own default.
        Self { path: None, url: None, token_file: None, donate_level: 1 }
    }
}

/// Why a pool cannot be mined for.
#[derive(Debug, thiserror::Error)]
pub enum BadPool {
    /// Its address is none.
    #[error("{url:?}: {error}")]
    Url {
        /// What stands there.
        url: String,
        /// What is wrong with it.
        error: BadAddress,
    },
    /// It lacks a login.
    #[error("{0}: user is empty; it is the wallet or the login that is paid")]
    NoUser(Address),
    /// Its certificate is not named well.
    #[error("{0}: tls_fingerprint: {1}")]
    Fingerprint(Address, BadFingerprint),
    /// There would be no certificate.
    #[error("{0}: tls_fingerprint needs stratum+ssl or daemon+https")]
    WithoutTls(Address),
    /// XMRig would believe any certificate.
    #[error(
        "{0}: XMRig checks no certificate authorities: set tls_fingerprint (XMRig and the pool's \
         page show it), or let the native engine mine"
    )]
    Unchecked(Address),
    /// It has two passwords.
    #[error("{0}: password and password_file exclude each other")]
    TwoPasswords(Address),
    /// Its password cannot be read.
    #[error("{}: {error}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl Mining {
    /// The pools as the engine wants them, with their passwords.
    ///
    /// # Errors
    /// The first one that cannot be mined for.
    pub fn pool_settings(&self) -> Result<Vec<pool::Settings>, BadPool> {
        let settings = |of: &Pool| {
            let mut settings = self.checked(of)?;
            if let Some(path) = &of.password_file {
                let password = Secret::read(path);
                let path = path.clone();
                let password = password.map_err(|error| BadPool::Password { path, error })?;
                password.expose().clone_into(&mut settings.password);
            }
            Ok(settings)
        };
        self.pools.iter().map(settings).collect()
    }

    /// A pool as the engine wants it, without what a file holds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checked(&self, pool: &Pool) -> Result<pool::Settings, BadPool> {
        let settings = pool.checked(self.algo)?;
        // One that runs already has pools of its own.
        let by_xmrig = self.engine == EngineKind::Xmrig && self.xmrig.url.is_none();
        let secure = settings.address.scheme.is_secure();
        if by_xmrig && secure && settings.fingerprint.is_none() {
            return Err(BadPool::Unchecked(settings.address));
        }
        Ok(settings)
    }

    /// What the native engine is told.
    pub fn native_settings(&self) -> ::mining::native::Settings {
        use ::mining::native::{Pages, Priority};
        ::mining::native::Settings {
            threads: self.threads.map(usize::from),
            pages: match self.pages {
                PagesKind::Thp => Pages::Transparent,
                PagesKind::Surplus => Pages::Surplus,
                PagesKind::Reserved => Pages::Reserved,
                PagesKind::Small => Pages::Small,
            },
            light: self.light,
            secure: self.secure_jit,
            priority: match self.priority {
                PriorityKind::Idle => Priority::Idle,
                PriorityKind::Normal => Priority::Normal,
            },
        }
    }
}

impl Pool {
    /// The pool as the engine wants it, without what a file holds.
    ///
    /// # Errors
    /// What is wrong with it.
    fn checked(&self, algo: Option<Algorithm>) -> Result<pool::Settings, BadPool> {
        let address: Address = match self.url.parse() {
            Ok(address) => address,
            Err(error) => {
                let url = self.url.chars().take(200).collect();
                return Err(BadPool::Url { url, error });
            }
        };
        let fingerprint = match self.tls_fingerprint.as_deref().map(str::parse).transpose() {
            Ok(fingerprint) => fingerprint,
            Err(error) => return Err(BadPool::Fingerprint(address, error)),
        };
        if fingerprint.is_some() && !address.scheme.is_secure() {
            return Err(BadPool::WithoutTls(address));
        }
        if self.user.trim().is_empty() {
            return Err(BadPool::NoUser(address));
        }
        if self.password.is_some() && self.password_file.is_some() {
            return Err(BadPool::TwoPasswords(address));
        }
        let mut settings = pool::Settings::new(address, self.user.trim());
        if let Some(password) = &self.password {
            password.expose().clone_into(&mut settings.password);
        }
        settings.rig_id.clone_from(&self.rig_id);
        settings.algorithm = self.algo.or(algo);
        settings.fingerprint = fingerprint;
        settings.keep_alive = self.keepalive;
        settings.nicehash = self.nicehash;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mining(yaml: &str) -> Result<Mining, String> {
        use figment::providers::{Format as _, Yaml};
        let read = figment::Figment::from(Yaml::string(yaml)).extract();
        read.map_err(|error: figment::Error| error.to_string())
    }

    #[test]
    fn a_pool_is_a_url_and_a_login() {
        let mining = mining(
            "algo: rx/0\npools:\n- {url: 'stratum+tcp://pool.example:3333', user: W, rig_id: r7}\n",
        )
        .unwrap();
        let pools = mining.pool_settings().unwrap();
        assert_eq!((pools[0].user.as_str(), pools[0].password.as_str()), ("W", "x"));
        assert_eq!(pools[0].algorithm, Some(Algorithm::RandomX));
        assert_eq!(pools[0].rig_id.as_deref(), Some("r7"));
    }

    #[test]
    fn what_is_wrong_with_a_pool_is_said() {
        let error = |pool: &str| match mining(&format!("pools: [{pool}]")) {
            Ok(mining) => mining.pool_settings().unwrap_err().to_string(),
            Err(error) => error,
        };
        let has = |pool: &str, words: &str| {
            let said = error(pool);
            assert!(said.contains(words), "{said}");
        };
        let tcp = "url: 'stratum+tcp://pool.example:3333'";
        has("{user: W}", "url");
        has(&format!("{{{tcp}}}"), "user");
        has(&format!("{{{tcp}, user: ' '}}"), "user is empty");
        has(&format!("{{{tcp}, user: W, tls_fingerprint: ab}}"), "64 hexadecimal digits");
        let print = "ab".repeat(32);
        has(&format!("{{{tcp}, user: W, tls_fingerprint: '{print}'}}"), "needs stratum+ssl");
        has(&format!("{{{tcp}, user: W, password: a, password_file: b}}"), "exclude each other");
        has(&format!("{{{tcp}, user: W, password_file: /nonexistent/p}}"), "/nonexistent/p");
        has("{url: 'http://pool.example', user: W}", "stratum+tcp");
        has(&format!("{{{tcp}, user: W, passwort: a}}"), "passwort");
        has(&format!("{{{tcp}, user: W, algo: cn/r}}"), "unknown algorithm");
    }

    #[test]
    fn a_certificate_that_xmrig_would_not_check_is_named() {
        let print = "ab".repeat(32);
        let tls = "url: 'stratum+ssl://pool.example:3333', user: W";
        let read = |text: String| mining(&text).unwrap().pool_settings().map(|pools| pools.len());
        assert_eq!(read(format!("pools: [{{{tls}}}]")).unwrap(), 1);
        let error = read(format!("engine: xmrig\npools: [{{{tls}}}]")).unwrap_err().to_string();
        assert!(error.contains("tls_fingerprint"), "{error}");
        let named = format!("engine: xmrig\npools: [{{{tls}, tls_fingerprint: '{print}'}}]");
        assert_eq!(read(named).unwrap(), 1);
    }

    #[test]
    fn passwords_are_not_shown() {
        let mining =
            mining("pools: [{url: 'stratum+tcp://p:1', user: W, password: hidden}]").unwrap();
        assert!(!format!("{mining:?}").contains("hidden"));
        assert!(!serde_json::to_string(&mining).unwrap().contains("hidden"));
        assert_eq!(mining.pool_settings().unwrap()[0].password, "hidden");
    }
}
