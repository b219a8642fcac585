//! The mail server: connects, encrypts the connection and logs in as a worker does, and sends nothing.

use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls as Encryption, TlsParameters};
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use shared::doctor::Finding;
use shared::platform::config::{Mail, Tls};

use super::within;

const CHECK: &str = "mail.server";

/// Returns nothing if there is no server, which a warning of the settings says.
pub(super) async fn check(settings: &Mail, limit: Duration) -> Option<Finding> {
    if settings.host.is_empty() {
        return None;
    }
    Some(within(CHECK, limit, examine(settings, limit)).await)
}

async fn examine(settings: &Mail, limit: Duration) -> Finding {
    let server = format!("{}:{}", settings.host, settings.port());
    let encryption = match encryption(settings) {
        Ok(encryption) => encryption,
        Err(reason) => return Finding::fault(CHECK, format!("{reason}."), "Correct mail.certificates."),
    };
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
        .port(settings.port())
        .tls(encryption)
        .timeout(Some(limit));
    let has_login = !settings.user.is_empty();
    let transport = if has_login {
        transport.credentials(Credentials::new(settings.user.clone(), settings.password.to_string()))
    } else {
        transport
    };
    let login = if has_login { " and accepts the login" } else { "" };
    match transport.build::<Tokio1Executor>().test_connection().await {
        Ok(true) => Finding::ok(CHECK, format!("{server} answers{login}.")),
        Ok(false) => Finding::fault(CHECK, format!("{server} closed the connection."), ACTION),
        Err(error) => Finding::fault(CHECK, format!("{server} cannot be used: {}.", reason(&error)), action(&error)),
    }
}

const ACTION: &str = "Check mail.host, mail.port and mail.tls, and the log of the mail server.";

fn action(error: &Error) -> &'static str {
    match error.status() {
        Some(_) => "Correct mail.user and mail.password.",
        // A certificate that is not trusted is an error of the connection, too.
        None if error.is_tls() || reason(error).contains("certificate") => {
            "Correct mail.tls, or set mail.certificates to the certificate of its authority."
        }
        None => ACTION,
    }
}

fn reason(error: &Error) -> String {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match error.status() {
        Some(code) => format!("{code} {cause}"),
        None => cause,
    }
}

fn encryption(settings: &Mail) -> Result<Encryption, String> {
    if settings.tls == Tls::None {
        return Ok(Encryption::None);
    }
    let mut parameters = TlsParameters::builder(settings.host.clone()).certificate_store(CertificateStore::WebpkiRoots);
    if !settings.certificates.as_os_str().is_empty() {
        let file = settings.certificates.display();
        let unusable = |error: &dyn std::fmt::Display| format!("The certificates in {file} cannot be used: {error}");
        let text = std::fs::read(&settings.certificates).map_err(|error| unusable(&error))?;
        for block in pem_blocks(&String::from_utf8_lossy(&text)) {
            let certificate = Certificate::from_pem(block.as_bytes()).map_err(|error| unusable(&error))?;
            parameters = parameters.add_root_certificate(certificate);
        }
    }
    let parameters = parameters.build_rustls().map_err(|error| error.to_string())?;
    Ok(if settings.tls == Tls::Tls { Encryption::Wrapper(parameters) } else { Encryption::Required(parameters) })
}

/// The certificates in a file, of which lettre reads one at a time.
fn pem_blocks(text: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    text.split_inclusive(END).filter(|block| block.ends_with(END))
}
