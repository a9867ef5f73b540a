//! How a pool is reached: TCP, and TLS whose certificate is always checked: by the system's
//! authorities and the host's name, or against the pinned fingerprint.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::settings::{Address, Fingerprint, Settings};

/// After how long without a word the kernel asks whether the other side is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long an address is tried alone before the next one of its host is tried beside it. A host
/// whose addresses of one version lead nowhere says nothing at all: RFC 8305 has the number.
const ALONE: Duration = Duration::from_millis(250);

/// The most addresses of a host that are tried.
const MOST_ADDRESSES: usize = 16;

/// Something to speak through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a pool's connections are made with.
#[derive(Debug, Clone)]
pub struct Transport {
    /// `None` where it is in the clear.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Transport {
    /// As a pool's settings say.
    ///
    /// # Errors
    /// Authorities that are no certificates.
    pub fn new(settings: &Settings) -> Result<Self, rustls::Error> {
        if !settings.address.scheme.is_secure() {
            return Ok(Self { tls: None });
        }
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match settings.fingerprint {
            Some(fingerprint) => Arc::new(Pinned {
                fingerprint,
                algorithms: provider.signature_verification_algorithms,
            }),
            None => platform(settings, Arc::clone(&provider))?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self { tls: Some(Arc::new(config)) })
    }
}

fn platform(
    settings: &Settings,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let further = settings.authorities.iter().map(|der| CertificateDer::from(der.clone()));
    Ok(Arc::new(Verifier::new_with_extra_roots(further, provider)?))
}

/// Connects.
///
/// # Errors
/// A host that is not found, a connection that is refused, a certificate that is not believed.
pub async fn connect(transport: &Transport, address: &Address) -> io::Result<Box<dyn Stream>> {
    let found = lookup_host((address.host.as_str(), address.port)).await?;
    let stream = first_of(found.take(MOST_ADDRESSES).collect(), TcpStream::connect).await?;
    // A share is one small line that must not wait for the next one.
    stream.set_nodelay(true)?;
    // Not every dialect has a question for a pool that is silent; the kernel has one.
    set_socket_keepalive(&stream, true)?;
    set_tcp_keepidle(&stream, KEEP_ALIVE)?;
    set_tcp_keepintvl(&stream, KEEP_ALIVE / 4)?;
    set_tcp_keepcnt(&stream, 4)?;
    let Some(tls) = &transport.tls else { return Ok(Box::new(stream)) };
    let name = match address.host.parse::<IpAddr>() {
        Ok(ip) => ServerName::IpAddress(ip.into()),
        Err(_) => ServerName::try_from(address.host.clone()).map_err(io::Error::other)?,
    };
    Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
}

/// What comes of the address that answers first: they are tried in order, each beside those that
/// say nothing, and at once behind one that fails.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut rest = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        attempts.extend(rest.next().map(&attempt));
        tokio::select! {
            Some(outcome) = attempts.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            },
            () = sleep(ALONE), if rest.len() > 0 => {}
            else => return Err(failed),
        }
    }
}

/// Believes one certificate, whoever signed it and whatever it says.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The certificate is another one.
#[derive(Debug, thiserror::Error)]
#[error("the pool's certificate has the fingerprint {found}, not the one that is configured")]
struct Unpinned {
    found: Fingerprint,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Fingerprint(Sha256::digest(certificate).into());
        if found == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::Other(OtherError(Arc::new(Unpinned { found }))).into())
    }

    // That it is the pool's certificate says nothing unless the pool has its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_is_not_waited_for() {
        // A black hole, a refusal, another black hole, one that answers.
        let answer = first_of(addresses(4), |address| async move {
            match address.port() {
                2 => Err(io::ErrorKind::ConnectionRefused.into()),
                4 => Ok(address.port()),
                _ => pending().await,
            }
        });
        let answer = timeout(Duration::from_secs(60), answer).await.expect("it waits for ever");
        assert_eq!(answer.unwrap(), 4);
    }

    #[tokio::test]
    async fn where_none_answers_the_last_one_says_why() {
        let refused = |count| async move {
            let refuse = |address: SocketAddr| async move {
                Err::<(), _>(io::Error::other(format!("{address} is closed")))
            };
            first_of(addresses(count), refuse).await.unwrap_err().to_string()
        };
        assert_eq!(refused(3).await, "192.0.2.1:3 is closed");
        assert_eq!(refused(0).await, "the host has no address");
    }
}
