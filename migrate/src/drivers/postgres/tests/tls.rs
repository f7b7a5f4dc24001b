//! What a URL asks for with `sslmode` and its companions, on a server that speaks TLS.
//!
//! Invariant: whether a session is encrypted is told by the server.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pg_harness::Cluster;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::super::PostgresOptions;
use super::super::connection::{Connection, Place};
use crate::error::MigrateError;

/// A server whose certificate is made for `shop.test`, and files for its clients.
struct Encrypted {
    cluster: Cluster,
    folder: TempDir,
}

/// Signs others' certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        // Otherwise every certificate has one name, and those that it signs look as if they had signed themselves.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for a host, and its key.
    fn sign(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

impl Encrypted {
    fn start() -> Self {
        let (authority, other) = (Authority::new(), Authority::new());
        let (certificate, key) = authority.sign("shop.test");
        let (own, own_key) = authority.sign("client");
        let (stranger, stranger_key) = other.sign("client");
        let cluster = Cluster::with_tls(&certificate, &key, &authority.certificate).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("ca.pem", authority.certificate),
            ("server.pem", certificate),
            ("other.pem", other.certificate),
            ("own.pem", own),
            ("own.key", own_key),
            ("stranger.pem", stranger),
            ("stranger.key", stranger_key),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self { cluster, folder }
    }

    /// All tests read; none changes the server.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Encrypted> = OnceLock::new();
        SHARED.get_or_init(|| {
            let started = Self::start();
            // Lines that go before the others: first match decides.
            let rules = "hostssl all with_certificate 127.0.0.1/32 trust clientcert=verify-ca\n\
                 hostssl all only_tls 127.0.0.1/32 trust\nhost all postgres 127.0.0.1/32 trust\n";
            let copy = format!(
                "DO $$ BEGIN EXECUTE format('COPY (SELECT unnest(string_to_array(%L, chr(10)))) TO %L', \
                 '{}', current_setting('hba_file')); END $$",
                rules.trim_end()
            );
            let server = started.cluster.server();
            server
                .run("postgres", &["CREATE ROLE with_certificate LOGIN", "CREATE ROLE only_tls LOGIN", &copy])
                .unwrap();
            server.run("postgres", &["SELECT pg_reload_conf()"]).unwrap();
            started
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Connects as a role under a host's name with parameters, in which `@name` stands for a file.
    fn connect(&self, role: &str, host: &str, parameters: &str) -> Result<Connection, MigrateError> {
        let url = self.cluster.url("postgres");
        let port = url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
        let parameters = parameters.replace('@', &format!("{}/", self.file("").display()));
        let url = format!("postgres://{role}@{host}:{port}/postgres?hostaddr=127.0.0.1&{parameters}");
        Arc::new(Place::parse("source", &url, PostgresOptions::default())?).open("test")
    }
}

fn is_encrypted(connection: &mut Connection) -> bool {
    connection.holds("(SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())").unwrap()
}

fn refusal(connected: Result<Connection, MigrateError>) -> String {
    let Err(error) = connected else { panic!("it was let in") };
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}

#[test]
fn a_session_is_encrypted_unless_the_url_says_otherwise() {
    let server = Encrypted::shared();
    for (parameters, encrypted) in [
        ("", true),
        ("sslmode=prefer", true),
        ("sslmode=require", true),
        ("sslmode=verify-ca&sslrootcert=@ca.pem", true),
        ("sslmode=verify-full&sslrootcert=@ca.pem", true),
        ("sslmode=verify-full&sslrootcert=@server.pem", true),
        ("sslmode=disable", false),
    ] {
        let mut connection = server.connect("postgres", "shop.test", parameters).unwrap();
        assert_eq!(is_encrypted(&mut connection), encrypted, "{parameters}");
    }
}

#[test]
fn a_certificate_of_a_stranger_is_refused_wherever_an_authority_is_named() {
    let server = Encrypted::shared();
    for parameters in [
        "sslmode=require&sslrootcert=@other.pem",
        "sslmode=verify-ca&sslrootcert=@other.pem",
        "sslmode=verify-full",
    ] {
        let said = refusal(server.connect("postgres", "shop.test", parameters));
        assert!(said.contains("not trusted") && said.contains("sslrootcert=FILE"), "{parameters}: {said}");
    }
}

#[test]
fn only_verify_full_asks_whose_certificate_it_is() {
    let server = Encrypted::shared();
    let full = "sslmode=verify-full&sslrootcert=@ca.pem";
    let said = refusal(server.connect("postgres", "other.test", full));
    assert!(said.contains("another host") && said.contains("shop.test"), "{said}");
    assert!(server.connect("postgres", "other.test", "sslmode=verify-ca&sslrootcert=@ca.pem").is_ok());
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let server = Encrypted::shared();
    let said = refusal(server.connect("with_certificate", "shop.test", "sslmode=require"));
    assert!(said.contains("sslcert=FILE"), "{said}");
    let stranger = "sslmode=require&sslcert=@stranger.pem&sslkey=@stranger.key";
    let said = refusal(server.connect("with_certificate", "shop.test", stranger));
    assert!(said.contains("does not accept") && said.contains("ssl_ca_file"), "{said}");
    let own = "sslmode=require&sslcert=@own.pem&sslkey=@own.key";
    assert!(is_encrypted(&mut server.connect("with_certificate", "shop.test", own).unwrap()));
}

#[test]
fn who_may_only_come_encrypted_is_told_so() {
    let said = refusal(Encrypted::shared().connect("only_tls", "shop.test", "sslmode=disable"));
    assert!(said.contains("hostssl") && said.contains("sslmode"), "{said}");
}

#[test]
fn a_server_without_tls_is_refused_where_the_url_asks_for_it() {
    let database = pg_harness::shared_database().unwrap();
    let connect = |parameters: &str| {
        let url = format!("{}?{parameters}", database.url());
        Arc::new(Place::parse("source", &url, PostgresOptions::default()).unwrap()).open("test")
    };
    assert!(!is_encrypted(&mut connect("sslmode=prefer").unwrap()));
    for mode in ["require", "verify-full"] {
        let said = refusal(connect(&format!("sslmode={mode}")));
        assert!(said.contains("does not speak TLS") && said.contains("ssl = on"), "{said}");
    }
}
