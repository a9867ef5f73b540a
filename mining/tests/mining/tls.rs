//! A pool's certificate is believed if an authority vouches for its name, or if it is the pinned one.

use mining::pool::{Fingerprint, Settings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::client::{Client, TIMING, settings};
use crate::test_pool::TestPool;
use crate::test_pool::jobs::Monero;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A pool whose certificate is for `name`, and the certificate.
    async fn pool(&self, name: &str) -> (TestPool, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        (TestPool::listen_tls(config).await, certificate)
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate).into())
}

async fn believed(pool: &TestPool, settings: Settings) {
    let mut client = Client::of(vec![settings], TIMING);
    pool.accept().await.unwrap().let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    client.job().await;
}

async fn refused(pool: &TestPool, settings: Settings) -> String {
    let mut client = Client::of(vec![settings], TIMING);
    if let Some(mut miner) = pool.accept().await {
        // In TLS 1.3 the pool is through before the miner has seen its certificate.
        assert_eq!(miner.hear().await, None, "it said something");
    }
    client.disconnected().await.0
}

#[tokio::test]
async fn a_certificate_needs_somebody_who_vouches_for_its_name() {
    let authority = Authority::new();
    let vouched = |pool: &TestPool| Settings {
        authorities: vec![authority.certificate.to_vec()],
        ..settings(&pool.url())
    };
    let (right, _) = authority.pool("127.0.0.1").await;
    believed(&right, vouched(&right)).await;
    let reason = refused(&right, settings(&right.url())).await;
    assert!(reason.contains("certificate"), "{reason}");
    let (wrong, _) = authority.pool("pool.example").await;
    let reason = refused(&wrong, vouched(&wrong)).await;
    assert!(reason.contains("not valid for name"), "{reason}");
}

#[tokio::test]
async fn a_pinned_certificate_needs_nobody_and_admits_nobody_else() {
    let authority = Authority::new();
    let (pool, certificate) = authority.pool("pool.example").await;
    let pinned = |fingerprint| Settings {
        fingerprint: Some(fingerprint),
        authorities: vec![authority.certificate.to_vec()],
        ..settings(&pool.url())
    };
    believed(&pool, pinned(fingerprint(&certificate))).await;
    let reason = refused(&pool, pinned(fingerprint(&authority.certificate))).await;
    let found = fingerprint(&certificate).to_string();
    assert!(reason.contains(&found), "{reason}");
}
