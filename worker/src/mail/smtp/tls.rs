//! The certificates that are trusted for the mail server.

use std::sync::Arc;

use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use shared::platform::config;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Refusal;

/// The trusted certificate authorities: the public ones, and those in the settings.
pub(crate) struct Trust {
    further: Vec<CertificateDer<'static>>,
    connector: TlsConnector,
}

impl Trust {
    /// Reads the certificates in the settings.
    pub fn read(settings: &config::Mail) -> anyhow::Result<Self> {
        let mut further = Vec::new();
        if !settings.certificates.as_os_str().is_empty() {
            let unreadable =
                |error| anyhow::anyhow!("mail.certificates: cannot read {}: {error}", settings.certificates.display());
            for certificate in CertificateDer::pem_file_iter(&settings.certificates).map_err(unreadable)? {
                further.push(certificate.map_err(unreadable)?);
            }
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in &further {
            roots.add(certificate.clone())?;
        }
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { further, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Starts TLS on a new connection.
    pub(super) async fn wrap(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Refusal> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Refusal::settings(format!("{host} is not a valid name for a certificate")))?;
        self.connector.connect(name, tcp).await.map_err(|error| Refusal {
            why: format!("the connection to the mail server cannot be encrypted: {error}"),
            // rustls reports its own errors, such as an untrusted certificate, as invalid data.
            settings: error.kind() == std::io::ErrorKind::InvalidData,
        })
    }

    /// The same certificates for lettre's STARTTLS.
    pub(super) fn parameters(&self, host: &str) -> Result<TlsParameters, Refusal> {
        let unusable = |error: lettre::transport::smtp::Error| Refusal::settings(error.to_string());
        let mut parameters = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
        for certificate in &self.further {
            parameters =
                parameters.add_root_certificate(Certificate::from_der(certificate.to_vec()).map_err(unusable)?);
        }
        parameters.build_rustls().map_err(unusable)
    }
}
