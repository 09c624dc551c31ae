//! What a pinned certificate is known by: its SHA-256, and its public key, read from the DER (RFC 5280, 4.1).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)]

use phobos_site::mail::Fingerprint;

/// The tags of the parts that are looked for.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;

/// A public key as a certificate has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicKey<'a> {
    /// What kind of key it is: the inside of its `AlgorithmIdentifier`.
    pub(crate) algorithm: &'a [u8],
    /// The key itself.
    pub(crate) bits: &'a [u8],
}

/// The fingerprint of a certificate.
pub(crate) fn fingerprint(der: &[u8]) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    Fingerprint::new(bytes)
}

/// The public key in a certificate; `None` if it is no certificate.
pub(crate) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    // A certificate of version 1 does not say so.
    if rest.first() == Some(&VERSION) {
        rest = first(rest)?.2;
    }
    // Serial number, signature, issuer, validity, subject.
    for _ in 0..5 {
        rest = first(rest)?.2;
    }
    let (key, _) = element(rest, SEQUENCE)?;
    let (algorithm, rest) = element(key, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    // No bits of the last byte are unused.
    let (0, bits) = bits.split_first()? else { return None };
    Some(PublicKey { algorithm, bits })
}

/// The content of the first element of `der`, which must have this tag, and what comes behind it.
fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = first(der)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag and content of the first element of `der`, and what comes behind it.
fn first(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (size, rest) = rest.split_first()?;
    let (length, rest) = match size {
        0..=0x7f => (usize::from(*size), rest),
        // So many bytes of length follow.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(size & 0x0f))?;
            let length =
                bytes.iter().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)));
            (length?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    fn server() -> CertificateDer<'static> {
        let pem = include_bytes!("../tests/cli/fixtures/server.pem");
        CertificateDer::pem_slice_iter(pem).next().unwrap().unwrap()
    }

    #[test]
    fn a_certificate_has_a_fingerprint_and_a_key() {
        let der = server();
        // What `openssl x509 -fingerprint -sha256` says of it.
        assert_eq!(fingerprint(&der).to_string(), include_str!("../tests/cli/fixtures/server.sha256").trim());
        let key = public_key(&der).unwrap();
        assert!(!key.algorithm.is_empty() && key.bits.first() == Some(&4), "{key:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_certificate_does_harm(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
            let mut der = server().to_vec();
            let at = at.index(der.len());
            der.splice(at..=at, [byte]);
            public_key(&der);
            der.truncate(cut.index(der.len()));
            public_key(&der);
        }
    }
}
