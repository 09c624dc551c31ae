//! The mail's settings, right and wrong.

use super::*;
use crate::config::Config;
use std::path::Path;

#[test]
fn nothing_said_means_root_and_whatever_works() {
    let settings: Settings = toml::from_str("").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.to.as_str(), "root");
    assert_eq!(settings.transport, Transport::Auto);
}

#[test]
fn a_relay_is_a_url() {
    let server = |text: &str| match text.parse().unwrap() {
        Transport::Smtp(server) => server.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(server("smtp://localhost"), "smtp://localhost:25");
    assert_eq!(server("submission://mail.example.org"), "submission://mail.example.org:587");
    assert_eq!(server("smtps://mail.example.org:4650"), "submissions://mail.example.org:4650");
    assert_eq!(server("smtp://[::1]:2525"), "smtp://[::1]:2525");
    assert_eq!(server("sendmail"), "Sendmail");
}

#[test]
fn every_mistake_names_line_and_key() {
    let cases = [
        ("to = ''", r#"to: "" is no mail address"#),
        ("to = '-oQ/tmp'", r#"to: "-oQ/tmp" is no mail address"#),
        ("to = 'a, b'", r#"to: "a, b" is no mail address"#),
        ("from = 'a@b@c'", r#"from: "a@b@c" is no mail address"#),
        ("transport = 'pigeon'", r#"transport: "pigeon" is none of auto, sendmail"#),
        ("transport = 'smtp://a:0'", r#"transport: "smtp://a:0" is none of auto"#),
        ("transport = 'smtp://user:pw@host'", "transport: "),
        ("credential = '../shadow'", r#"credential: "../shadow" is no name of a credential"#),
        ("credential = 'smtp'", "credential: the transport does not protect it; use submission://"),
        ("ca-file = 'ca.pem'", "ca-file: ca.pem is not an absolute path"),
        ("hello = 'nas lan'", r#"hello: "nas lan" is neither a host's name nor an address"#),
        ("hello = '[nas]'", r#"hello: "[nas]" is neither"#),
        ("hello = \"nas\\r\\nMAIL\"", "hello: "),
        ("tls-fingerprint = 'sha256:12'", r#"tls-fingerprint: "sha256:12" is no fingerprint, which is sha256: and 64"#),
        ("tls-fingerprint = 'md5:00'", "tls-fingerprint: "),
        ("password = 'secret'", "password: unknown field `password`"),
    ];
    for (text, want) in cases {
        let error = Config::parse(Path::new("f"), &format!("[mail]\n{text}")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("f:2: {want}")), "{text}: {error}");
    }
}

#[test]
fn a_fingerprint_is_read_as_it_is_told_and_as_openssl_prints_it() {
    let plain = format!("sha256:{}", "0aF1".repeat(16));
    let colons = format!("SHA256:{}", ["0A"; 32].join(":"));
    assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), plain.to_lowercase());
    assert_eq!(colons.parse::<Fingerprint>().unwrap(), Fingerprint::new([10; 32]));
    for bad in ["sha256:", "0a", &format!("sha256:{}", "0".repeat(63)), &format!("sha256:{}", "0g".repeat(32))] {
        assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
    }
    let text = format!("[mail]\ntls-fingerprint = '{plain}'");
    let error = Config::parse(Path::new("f"), &text).unwrap_err().to_string();
    assert!(error.starts_with("f:2: tls-fingerprint: the transport has no TLS"), "{error}");
}

#[test]
fn a_client_calls_itself_by_a_name_or_an_address() {
    for good in ["nas.lan", "nas", "[192.0.2.1]", "[IPv6:::1]"] {
        assert_eq!(Hello::try_from(good.to_owned()).unwrap().as_str(), good);
    }
}

#[test]
fn an_address_without_a_domain_can_get_one() {
    let root: Address = "root".parse().unwrap();
    assert_eq!(root.qualified("nas.example.org").unwrap().as_str(), "root@nas.example.org");
    assert!(root.qualified("nas\r\nBcc: x").is_err());
    let far: Address = "a.b+c@example.org".parse().unwrap();
    assert_eq!(far.qualified("nas").unwrap(), far);
    assert_eq!((far.local(), far.domain()), ("a.b+c", Some("example.org")));
}

#[test]
fn fuzz_mail_settings() {
    phobos_fuzz::target(
        "mail_settings",
        &[b"root@example.org", b"submission://mail.example.org:587", b"auto", b"SHA256:aa:bb"],
        |input| {
            let text = String::from_utf8_lossy(input);
            drop((text.parse::<Address>(), text.parse::<Transport>(), text.parse::<Fingerprint>()));
        },
    );
}
