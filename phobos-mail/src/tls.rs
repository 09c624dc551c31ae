//! TLS to a mail server: the system's authorities, those of the settings, or one certificate pinned by its fingerprint.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)]

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use phobos_core::error::Chain;
use phobos_site::mail::{Fingerprint, Settings};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificate;

/// What is needed to go on in TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
    /// What the server has shown, for the message about it.
    seen: Arc<Seen>,
}

/// The server's certificate as far as it was looked at.
#[derive(Debug, Default)]
struct Seen(Mutex<Option<(Fingerprint, Option<Error>)>>);

/// Trusts whom the authorities vouch for.
#[derive(Debug)]
struct Vouched {
    usual: Arc<WebPkiServerVerifier>,
    seen: Arc<Seen>,
}

/// Trusts one certificate, whatever is in it: that it is the server's is proved by its key, as always.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Arc<Seen>,
}

impl Tls {
    /// TLS to the server `host`, as the settings say.
    ///
    /// # Errors
    ///
    /// When certificates cannot be read.
    pub(crate) fn new(host: &str, settings: &Settings) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let seen = Arc::new(Seen::default());
        let verifier: Arc<dyn ServerCertVerifier> = match settings.tls_fingerprint {
            Some(pin) => {
                let algorithms = provider.signature_verification_algorithms;
                Arc::new(Pinned { pin, algorithms, seen: Arc::clone(&seen) })
            }
            None => Arc::new(Vouched { usual: usual(settings, &provider)?, seen: Arc::clone(&seen) }),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no server's name"))?;
        Ok(Self { config: Arc::new(config), name, seen })
    }

    /// What to do about the certificate, if that is what was wrong.
    pub(crate) fn advice(&self) -> Option<String> {
        let seen = self.seen.0.lock().ok()?;
        let (fingerprint, error) = seen.as_ref()?;
        let error = error.as_ref()?;
        Some(format!(
            "its certificate is not trusted: {}; if it is your own server's, pin it in [mail]: tls-fingerprint = \"{fingerprint}\"",
            in_words(error)
        ))
    }
}

/// The usual checks: signed by an authority, for this name, in time.
fn usual(settings: &Settings, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        log::debug!("the system's certificates: {}", Chain(error));
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = &settings.ca_file {
        let shown = path.display();
        let all = CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {shown}"))?;
        let mut count = 0_usize;
        for certificate in all {
            let certificate = certificate.with_context(|| format!("cannot use the certificates in {shown}"))?;
            roots.add(certificate).with_context(|| format!("cannot use a certificate in {shown} as an authority"))?;
            count = count.saturating_add(1);
        }
        if count == 0 {
            bail!("{shown} holds no certificate");
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .context("cannot set up TLS: there are no authorities to trust; install ca-certificates, or set ca-file")
}

impl Seen {
    fn note(&self, fingerprint: Fingerprint, error: Option<&Error>) {
        if let Ok(mut seen) = self.0.lock() {
            *seen = Some((fingerprint, error.cloned()));
        }
    }
}

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.usual.verify_server_cert(certificate, intermediates, name, ocsp, now);
        self.seen.note(certificate::fingerprint(certificate), verified.as_ref().err());
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

impl Pinned {
    /// Whether `signed` is a signature of `message` by the certificate's key.
    ///
    /// webpki reads no certificates of version 1, which is what `openssl x509 -req -signkey` makes.
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = |error| Error::InvalidCertificate(error);
        let key = certificate::public_key(certificate).ok_or_else(|| bad(CertificateError::BadEncoding))?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or_else(|| Error::General("its signature is of a kind that is not known here".to_owned()))?;
        let holds = candidates.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key.algorithm
                && algorithm.verify_signature(key.bits, message, signed.signature()).is_ok()
        });
        if holds { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad(CertificateError::BadSignature)) }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = certificate::fingerprint(certificate);
        if fingerprint == self.pin {
            self.seen.note(fingerprint, None);
            return Ok(ServerCertVerified::assertion());
        }
        let error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        self.seen.note(fingerprint, Some(&error));
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What is wrong with a certificate, for people who do not know webpki.
fn in_words(error: &Error) -> String {
    let Error::InvalidCertificate(error) = error else { return error.to_string() };
    match error {
        CertificateError::ApplicationVerificationFailure => "it is another one than tls-fingerprint says".to_owned(),
        CertificateError::UnknownIssuer => "nobody whom this machine trusts has signed it".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its time is over".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its time has not come yet; is the clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is for another name ({error})")
        }
        CertificateError::Other(other) => match format!("{other:?}") {
            said if said.contains("CaUsedAsEndEntity") => {
                "it is an authority's own (CA:TRUE), which cannot be a server's as well".to_owned()
            }
            said if said.contains("UnsupportedCertVersion") => {
                "it is of an old kind (version 1) that says nothing about names".to_owned()
            }
            said => crate::text::line(&said, 200),
        },
        other => other.to_string(),
    }
}
