//! TLS of the listener: certificate, key, whose client certificates are asked for, and new files in
//! place of old ones while it runs.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::Listen;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// When each of the files was last written.
type ChangedAt = Vec<Option<SystemTime>>;

/// The files of a listener that speaks TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// The files that are set; `None`: plain HTTP.
    pub fn of(listen: &Listen) -> Option<Self> {
        let (cert, key) = (listen.tls_cert.clone()?, listen.tls_key.clone()?);
        Some(Self { cert, key, client_ca: listen.tls_client_ca.clone() })
    }

    /// Reads them.
    ///
    /// # Errors
    /// Where one cannot be read or used; it is named.
    pub fn load(&self) -> io::Result<Arc<ServerConfig>> {
        let chain = certificates(&self.cert)?;
        let secret = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| bad(&self.key, &e))?;
        let builder = ServerConfig::builder();
        let builder = match &self.client_ca {
            Some(path) => builder.with_client_cert_verifier(verifier(path)?),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_single_cert(chain, secret).map_err(|e| bad(&self.cert, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Takes new files into use as they come, for new connections.
    pub async fn watch(self, running: RustlsConfig) {
        let mut seen = self.changed_at();
        loop {
            tokio::time::sleep(LOOK).await;
            self.look(&mut seen, &running);
        }
    }

    /// One look. Files that cannot be used change nothing; the log says so once.
    fn look(&self, seen: &mut ChangedAt, running: &RustlsConfig) {
        let now = self.changed_at();
        if now == *seen {
            return;
        }
        *seen = now;
        match self.load() {
            Ok(config) => {
                running.reload_from_config(config);
                tracing::info!(cert = %self.cert.display(), "new certificate in use");
            }
            Err(error) => tracing::error!(%error, "the certificate stays as it was"),
        }
    }

    fn changed_at(&self) -> ChangedAt {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let changed = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
        files.into_iter().flatten().map(changed).collect()
    }
}

fn verifier(path: &Path) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| bad(path, &error))?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|error| bad(path, &error))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(path, &error))
}

fn bad(path: &Path, error: &dyn Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn new_files_are_taken_into_use_and_bad_ones_are_not() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let renew = || {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(&cert, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        };
        renew();
        let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: None };
        let running = RustlsConfig::from_config(files.load().unwrap());
        // As if they had been looked at before they were written.
        let stale = || vec![None, None];
        let mut seen = files.changed_at();
        let first = running.get_inner();
        files.look(&mut seen, &running);
        assert!(Arc::ptr_eq(&first, &running.get_inner()), "nothing was written");
        renew();
        files.look(&mut stale(), &running);
        let second = running.get_inner();
        assert!(!Arc::ptr_eq(&first, &second));
        fs::write(&key, "no key").unwrap();
        files.look(&mut stale(), &running);
        assert!(Arc::ptr_eq(&second, &running.get_inner()), "the files do not fit");
    }
}
