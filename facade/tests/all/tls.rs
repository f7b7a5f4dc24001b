//! TLS to clients, beside cleartext: names, versions, and certificates that change.

use std::fs;
use std::process::Command;

use facade::plan::Plan;
use facade::settings::{CertificateSettings, Settings, UpstreamSettings};

use crate::foreign::{Served, certify, curl, served};
use crate::support::{Upstream, Wire, eventually};

const TLS: &str = "[tls]\nlisten = '127.0.0.1:0'\ncertificate = 'shop.pem'\nkey = 'shop.key'\nwatch_ms = 50\n\
                   [[tls.names]]\nnames = ['other.example', '*.other.example']\ncertificate = 'other.pem'\nkey = 'other.key'\n";

/// Asks for `name` and trusts only the certificate in `file`.
fn ask(served: &Served, name: &str, file: &str, more: &[&str]) -> String {
    let address = served.tls.unwrap();
    let resolve = format!("{name}:{}:127.0.0.1", address.port());
    let trusted = served.folder.path().join(file);
    let url = format!("https://{name}:{}/", address.port());
    let fixed = ["--resolve", &resolve, "--cacert", trusted.to_str().unwrap(), "-w", " %{http_version}"];
    curl(&[&fixed, more, &[url.as_str()]].concat())
}

#[test]
fn tls_speaks_what_alpn_agrees_on_beside_cleartext() {
    let upstream = Upstream::saying("hello");
    let served = served(&upstream, TLS);
    assert_eq!(ask(&served, "shop.example", "shop.pem", &["--http2"]), "hello 2");
    assert_eq!(ask(&served, "shop.example", "shop.pem", &["--http1.1"]), "hello 1.1");
    assert_eq!(ask(&served, "shop.example", "shop.pem", &["--no-alpn"]), "hello 1.1");
    assert_eq!(ask(&served, "shop.example", "shop.pem", &["--tls-max", "1.2"]), "hello 2");
    let mut wire = served.connect();
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "hello");
}

#[test]
fn a_name_gets_the_certificate_that_is_for_it() {
    let served = served(&Upstream::saying("hello"), TLS);
    assert_eq!(ask(&served, "other.example", "other.pem", &[]), "hello 2");
    certify(served.folder.path(), "other", "a.other.example", 2102);
    eventually("the new certificate is in use", || served.metric(EXPIRY_OF_OTHER) == "4165516800");
    assert_eq!(ask(&served, "a.other.example", "other.pem", &[]), "hello 2");
}

const EXPIRY_OF_OTHER: &str = "banyan_facade_certificate_expiry_timestamp_seconds{server=\"other.example\"}";
const EXPIRY: &str = "banyan_facade_certificate_expiry_timestamp_seconds{server=\"\"}";
const FAILURES: &str = "banyan_facade_certificate_reload_failures_total";

#[test]
fn a_bad_new_certificate_is_told_and_the_old_one_goes_on() {
    let served = served(&Upstream::saying("hello"), TLS);
    let path = served.folder.path().join("shop.pem");
    let old = fs::read(&path).unwrap();
    assert_eq!((served.metric(EXPIRY), served.metric(FAILURES)), ("4133980800".to_owned(), "0".to_owned()));
    fs::write(&path, "no certificate").unwrap();
    eventually("the failure is counted", || served.metric(FAILURES) == "1");
    fs::write(served.folder.path().join("kept.pem"), &old).unwrap();
    assert_eq!(ask(&served, "shop.example", "kept.pem", &[]), "hello 2");
    certify(served.folder.path(), "shop", "shop.example", 2103);
    eventually("the new certificate is in use", || served.metric(EXPIRY) == "4197052800");
    assert_eq!(ask(&served, "shop.example", "shop.pem", &[]), "hello 2");
}

#[test]
fn a_hangup_has_certificates_read_at_once() {
    let served = served(&Upstream::saying("hello"), &TLS.replace("watch_ms = 50", "watch_ms = 3600000"));
    certify(served.folder.path(), "shop", "shop.example", 2103);
    served.process.signal("HUP");
    eventually("the new certificate is in use", || served.metric(EXPIRY) == "4197052800");
}

#[test]
fn an_old_version_is_refused_where_the_settings_say_so() {
    let served = served(&Upstream::saying("hello"), &TLS.replace("[tls]\n", "[tls]\nmin_version = '1.3'\n"));
    let url = format!("https://{}/", served.tls.unwrap());
    let status =
        Command::new("curl").args(["-sk", "--tls-max", "1.2", "--max-time", "20", &url]).status().unwrap();
    assert_eq!(status.code(), Some(35));
    assert_eq!(ask(&served, "shop.example", "shop.pem", &["--tlsv1.3"]), "hello 2");
    eventually("the failure is counted", || {
        served.metric("banyan_facade_tls_handshake_failures_total") == "1"
    });
}

#[test]
fn a_client_that_does_not_shake_hands_is_let_go() {
    let served = served(&Upstream::saying("hello"), &TLS.replace("[tls]\n", "[tls]\nhandshake_ms = 100\n"));
    let mut wire = Wire::connect(served.tls.unwrap());
    wire.send([0x16, 3, 1]);
    assert!(wire.is_closed());
}

#[test]
fn what_is_wrong_with_certificates_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop", "other"] {
        certify(folder.path(), name, name, 2101);
    }
    let path = |file: &str| folder.path().join(file);
    let mut settings = Settings { listen: String::new(), ..Settings::default() };
    settings.tls.listen = "127.0.0.1:0".to_owned();
    settings.tls.certificate = path("shop.pem");
    settings.tls.key = path("other.key");
    settings.tls.names = vec![CertificateSettings { certificate: path("gone.pem"), ..Default::default() }];
    let errors = Plan::new(&settings).unwrap_err().to_string();
    for part in ["other.key", "is not the key of", "gone.pem", "tls.names[0].names"] {
        assert!(errors.contains(part), "{part} is missing in {errors}");
    }
}

#[test]
fn a_file_that_cannot_be_served_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path(), "shop", "shop.example", 2101);
    let path = |file: &str| folder.path().join(file);
    let told = |certificate: &std::path::Path, key: &std::path::Path, names: &[&str]| {
        let mut settings = Settings { listen: String::new(), ..Settings::default() };
        let monolith = UpstreamSettings { url: "http://127.0.0.1:1".to_owned(), ..Default::default() };
        settings.upstreams.insert("monolith".to_owned(), monolith);
        settings.control.path = path("control.db");
        settings.tls.listen = "127.0.0.1:0".to_owned();
        (settings.tls.certificate, settings.tls.key) = (path("shop.pem"), path("shop.key"));
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        settings.tls.names =
            vec![CertificateSettings { names, certificate: certificate.to_owned(), key: key.to_owned() }];
        Plan::new(&settings).map_or_else(|errors| errors.to_string(), |plan| plan.doubts().join("\n"))
    };
    let written = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        path(name)
    };
    let (pem, key) = (path("shop.pem"), path("shop.key"));
    let text = fs::read_to_string(&pem).unwrap();
    let strange = written(
        "strange.pem",
        &format!("{text}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    );
    let cut = written("cut.pem", &text[..text.len() / 2]);
    let locked = written(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let shop: &[&str] = &["shop.example"];
    for (certificate, key, names, reason) in [
        (&strange, &key, shop, "certificate 2 in it is no X.509 certificate"),
        (&cut, &key, shop, "the file is cut off"),
        (&"/dev/zero".into(), &key, shop, "it is no regular file"),
        (&pem, &locked, shop, "encrypted with a password"),
        (&pem, &key, &["10.0.0.1", "shop.example"], "`tls.names[0].names[0]`: `10.0.0.1` is no server name"),
        (&pem, &key, &["*.*.example"], "is no server name"),
        (&pem, &key, &["shop.example", "Shop.example"], "has a certificate already"),
        (&pem, &key, &["other.example"], "does not name `other.example`"),
    ] {
        let told = told(certificate, key, names);
        assert!(told.contains(reason), "{reason} is missing in {told}");
    }
    assert_eq!(told(&pem, &key, shop), "");
    certify(folder.path(), "old", "shop.example", 2001);
    assert!(told(&path("old.pem"), &path("old.key"), shop).contains("has expired"));
}
