//! TLS for both directions: settings from Python, rustls configurations, reload of files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

use crate::der;
use crate::inbox::lock;

#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientAuth {
    None,
    Optional,
    Required,
}

/// What both directions have in common: versions and cipher suites.
#[derive(Clone)]
struct Common {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Common {
    fn new(min: &str, max: &str, cipher_suites: &[String]) -> PyResult<Self> {
        let number = |text: &str| match text {
            "1.2" => Ok(2),
            "1.3" => Ok(3),
            _ => Err(PyValueError::new_err(format!("unknown TLS version {text:?}"))),
        };
        let (min, max) = (number(min)?, number(max)?);
        if min > max {
            return Err(PyValueError::new_err("min_version is above max_version"));
        }
        let mut versions = Vec::new();
        if max >= 3 {
            versions.push(&TLS13);
        }
        if min <= 2 {
            versions.push(&TLS12);
        }
        let mut provider = rustls::crypto::ring::default_provider();
        select_suites(&mut provider, cipher_suites)?;
        Ok(Common { provider: Arc::new(provider), versions })
    }
}

/// Keep the named suites. TLS 1.3's stay unless some of them are named: as in Go, a list of
/// older names is no statement about them.
fn select_suites(provider: &mut CryptoProvider, names: &[String]) -> PyResult<()> {
    if names.is_empty() {
        return Ok(());
    }
    let name_of = |suite: &rustls::SupportedCipherSuite| {
        format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
    };
    let known: Vec<String> = provider.cipher_suites.iter().map(name_of).collect();
    let mut wanted = Vec::new();
    for name in names {
        // Go's short names for the ChaCha suites.
        let long = format!("{name}_SHA256");
        let name = if known.contains(name) { name } else { &long };
        if !known.contains(name) {
            return Err(PyValueError::new_err(format!("unknown cipher suite {:?}", names)));
        }
        wanted.push(name.clone());
    }
    let is_13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
    let names_13 = provider.cipher_suites.iter().any(|s| is_13(s) && wanted.contains(&name_of(s)));
    provider
        .cipher_suites
        .retain(|suite| wanted.contains(&name_of(suite)) || (is_13(suite) && !names_13));
    Ok(())
}

/// How a listener proves itself and whom it believes.
#[pyclass(frozen, module = "corum._transport")]
pub struct ServerTls {
    rules: Arc<ServerRules>,
}

struct ServerRules {
    cert_file: String,
    key_file: String,
    ca_file: Option<String>,
    client_auth: ClientAuth,
    sni: Vec<(String, String, String)>,
    crl_file: Option<String>,
    allowed_common_names: Vec<String>,
    allowed_host_names: Vec<String>,
    common: Common,
}

#[pymethods]
impl ServerTls {
    #[new]
    #[pyo3(signature = (
        *,
        cert_file,
        key_file,
        ca_file = None,
        client_auth = "none",
        sni = vec![],
        crl_file = None,
        allowed_common_names = vec![],
        allowed_host_names = vec![],
        min_version = "1.2",
        max_version = "1.3",
        cipher_suites = vec![],
    ))]
    #[allow(clippy::too_many_arguments)] // keyword-only: this is the settings object itself
    fn new(
        cert_file: String,
        key_file: String,
        ca_file: Option<String>,
        client_auth: &str,
        sni: Vec<(String, String, String)>,
        crl_file: Option<String>,
        allowed_common_names: Vec<String>,
        allowed_host_names: Vec<String>,
        min_version: &str,
        max_version: &str,
        cipher_suites: Vec<String>,
    ) -> PyResult<Self> {
        let client_auth = match client_auth {
            "none" => ClientAuth::None,
            "optional" => ClientAuth::Optional,
            "required" => ClientAuth::Required,
            _ => return Err(PyValueError::new_err(format!("unknown client_auth {client_auth:?}"))),
        };
        if client_auth != ClientAuth::None && ca_file.is_none() {
            return Err(PyValueError::new_err("client_auth needs a ca_file"));
        }
        let common = Common::new(min_version, max_version, &cipher_suites)?;
        let rules = ServerRules {
            cert_file,
            key_file,
            ca_file,
            client_auth,
            sni,
            crl_file,
            allowed_common_names,
            allowed_host_names,
            common,
        };
        Ok(ServerTls { rules: Arc::new(rules) })
    }
}

/// Size, change time and inode of every file: equal stamps mean equal contents.
type Stamp = Vec<Option<(u64, i64, i64, u64)>>;

/// Makes the server's half of handshakes; re-reads files that changed.
pub struct Acceptor {
    rules: Arc<ServerRules>,
    loaded: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Acceptor {
    /// Err: the files cannot be read or do not fit together.
    pub fn new(tls: &ServerTls) -> io::Result<Acceptor> {
        let rules = Arc::clone(&tls.rules);
        let stamp = rules.stamp();
        let config = Arc::new(rules.load()?);
        Ok(Acceptor { rules, loaded: Mutex::new((stamp, config)) })
    }

    pub fn accept(&self) -> io::Result<Box<rustls::Connection>> {
        let stamp = self.rules.stamp();
        let mut loaded = lock(&self.loaded);
        if loaded.0 != stamp {
            *loaded = (stamp, Arc::new(self.rules.load()?));
        }
        let connection = ServerConnection::new(Arc::clone(&loaded.1)).map_err(io::Error::other)?;
        Ok(Box::new(connection.into()))
    }
}

impl ServerRules {
    fn stamp(&self) -> Stamp {
        let mut files = vec![&self.cert_file, &self.key_file];
        files.extend(self.ca_file.iter().chain(&self.crl_file));
        files.extend(self.sni.iter().flat_map(|(_, cert, key)| [cert, key]));
        let stamp = |file: &String| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ino()))
        };
        files.into_iter().map(stamp).collect()
    }

    fn load(&self) -> io::Result<ServerConfig> {
        let provider = &self.common.provider;
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&self.common.versions)
            .map_err(io::Error::other)?;
        let builder = match (&self.ca_file, self.client_auth) {
            (Some(ca_file), ClientAuth::Optional | ClientAuth::Required) => {
                let roots = Arc::new(roots(ca_file)?);
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
                if let Some(file) = &self.crl_file {
                    let pem = read(file)?;
                    let lists: Result<Vec<_>, _> =
                        CertificateRevocationListDer::pem_slice_iter(&pem).collect();
                    let lists = lists.map_err(|error| bad_file(file, &error))?;
                    verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
                }
                if self.client_auth == ClientAuth::Optional {
                    verifier = verifier.allow_unauthenticated();
                }
                let chain = verifier.build().map_err(io::Error::other)?;
                builder.with_client_cert_verifier(self.names_too(chain))
            }
            _ => builder.with_no_client_auth(),
        };
        let mut names = Vec::new();
        for (name, cert, key) in &self.sni {
            names.push((name.to_ascii_lowercase(), certified(cert, key, provider)?));
        }
        let default = certified(&self.cert_file, &self.key_file, provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(Certificates { default, names }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ServerRules {
    /// `chain`, and the names that clients may have, if not any will do.
    fn names_too(&self, chain: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
        if self.allowed_common_names.is_empty() && self.allowed_host_names.is_empty() {
            return chain;
        }
        let common_names = self.allowed_common_names.clone();
        let name = |name: &String| ServerName::try_from(name.clone()).ok();
        let host_names = self.allowed_host_names.iter().filter_map(name).collect();
        Arc::new(Named { chain, common_names, host_names })
    }
}

/// Client certificates that some authority vouches for (`chain`) and that bear one of these names:
/// a common name, or a host name that the certificate is valid for.
#[derive(Debug)]
struct Named {
    chain: Arc<dyn ClientCertVerifier>,
    common_names: Vec<String>,
    host_names: Vec<ServerName<'static>>,
}

impl Named {
    fn allows(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let subject = || der::names(certificate).unwrap_or_default().common_name;
        if !self.common_names.is_empty() && self.common_names.contains(&subject()) {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        let valid = |host: &ServerName<'_>| verify_server_name(&parsed, host).is_ok();
        if self.host_names.iter().any(valid) {
            return Ok(());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(certificate, above, now)?;
        self.allows(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    names: Vec<(String, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let named = self.names.iter().find(|entry| Some(&entry.0) == asked.as_ref());
        Some(Arc::clone(named.map_or(&self.default, |entry| &entry.1)))
    }
}

/// How a channel checks its server and proves itself.
#[pyclass(frozen, module = "corum._transport")]
pub struct ClientTls {
    rules: Arc<ClientRules>,
}

pub struct ClientRules {
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    server_name: Option<String>,
    skip_verify: bool,
    common: Common,
}

#[pymethods]
impl ClientTls {
    #[new]
    #[pyo3(signature = (
        *,
        ca_file = None,
        cert_file = None,
        key_file = None,
        server_name = None,
        skip_verify = false,
        min_version = "1.2",
        max_version = "1.3",
        cipher_suites = vec![],
    ))]
    #[allow(clippy::too_many_arguments)] // keyword-only: this is the settings object itself
    fn new(
        ca_file: Option<String>,
        cert_file: Option<String>,
        key_file: Option<String>,
        server_name: Option<String>,
        skip_verify: bool,
        min_version: &str,
        max_version: &str,
        cipher_suites: Vec<String>,
    ) -> PyResult<Self> {
        if cert_file.is_some() != key_file.is_some() {
            return Err(PyValueError::new_err("cert_file and key_file belong together"));
        }
        let common = Common::new(min_version, max_version, &cipher_suites)?;
        let rules = ClientRules { ca_file, cert_file, key_file, server_name, skip_verify, common };
        Ok(ClientTls { rules: Arc::new(rules) })
    }
}

impl ClientTls {
    pub fn rules(&self) -> Arc<ClientRules> {
        Arc::clone(&self.rules)
    }

    pub fn default_rules() -> PyResult<Arc<ClientRules>> {
        let tls = ClientTls::new(None, None, None, None, false, "1.2", "1.3", vec![])?;
        Ok(tls.rules)
    }
}

impl ClientRules {
    /// The client's half of a handshake with `host`, offering `protocol`.
    pub fn connect(&self, host: &str, protocol: &[u8]) -> io::Result<Box<rustls::Connection>> {
        let provider = &self.common.provider;
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(&self.common.versions)
            .map_err(io::Error::other)?;
        let builder = if self.skip_verify {
            let algorithms = provider.signature_verification_algorithms;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(algorithms)))
        } else {
            let roots = match &self.ca_file {
                Some(file) => roots(file)?,
                None => system_roots()?,
            };
            builder.with_root_certificates(roots)
        };
        let mut config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = private_key(key)?;
                builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name);
        Ok(Box::new(connection.map_err(io::Error::other)?.into()))
    }
}

/// For `skip_verify`: any certificate will do, but its owner must hold the key.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

// Files ---------------------------------------------------------------------------------------

fn read(file: &str) -> io::Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| bad_file(file, &error))
}

fn bad_file(file: &str, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {error}"))
}

fn certificates(file: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| bad_file(file, &error))?;
    if found.is_empty() {
        return Err(bad_file(file, &"no certificate in this file"));
    }
    Ok(found)
}

fn private_key(file: &str) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| bad_file(file, &error))
}

fn certified(cert: &str, key: &str, provider: &CryptoProvider) -> io::Result<Arc<CertifiedKey>> {
    let certified = CertifiedKey::from_der(certificates(cert)?, private_key(key)?, provider);
    certified.map(Arc::new).map_err(|error| bad_file(cert, &error))
}

fn roots(file: &str) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| bad_file(file, &error))?;
    }
    Ok(store)
}

fn system_roots() -> io::Result<RootCertStore> {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let chosen = std::env::var("SSL_CERT_FILE").ok();
    let places = chosen.iter().map(String::as_str).chain(PLACES);
    let mut store = RootCertStore::empty();
    for place in places {
        if let Ok(found) = certificates(place) {
            store.add_parsable_certificates(found);
            break;
        }
    }
    Ok(store)
}
