//! The client.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::Error;
use crate::edge::environment::Environment;

/// Name a file of certificates instead of the system's.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "NIX_SSL_CERT_FILE"];
/// Where systems keep them: Debian and NixOS, Fedora, Alpine.
const FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// How long a server may take to be reached, to answer, and to send the next bytes.
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes at a time.
const CHUNK: usize = 64 << 10;

/// Fetches a file of `most` bytes at most; `progress` hears how many have come, and of how many.
///
/// # Errors
/// It cannot be had, is too large, or `to` does not take it. Part of it may have been written then.
pub fn fetch(
    url: &str,
    to: &mut dyn Write,
    most: u64,
    environment: &Environment,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), Error> {
    let mut answer = agent(environment)?.get(url).call().map_err(failed)?;
    let body = answer.body_mut();
    let wanted = body.content_length();
    if wanted.is_some_and(|wanted| wanted > most) {
        return Err(Error::TooLarge { most });
    }
    // One more than may come tells that there is more.
    let mut from = body.with_config().limit(u64::MAX).reader().take(most.saturating_add(1));
    let mut chunk = vec![0; CHUNK];
    let mut has = 0;
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Failed(error.to_string())),
        };
        has += count as u64;
        if has > most {
            return Err(Error::TooLarge { most });
        }
        to.write_all(chunk.get(..count).unwrap_or_default()).map_err(Error::Write)?;
        progress(has, wanted);
    }
    match wanted {
        Some(wanted) if wanted != has => Err(Error::Cut { has, wanted }),
        _ => Ok(()),
    }
}

fn failed(error: ureq::Error) -> Error {
    match error {
        ureq::Error::StatusCode(status) => Error::Status { status },
        error => Error::Failed(error.to_string()),
    }
}

fn agent(environment: &Environment) -> Result<Agent, Error> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(certificates(environment)?)))
        .build();
    let config = Agent::config_builder()
        .https_only(true)
        .tls_config(tls)
        .user_agent(concat!("civm/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build();
    Ok(config.into())
}

fn certificates(environment: &Environment) -> Result<Vec<Certificate<'static>>, Error> {
    let named = VARIABLES.iter().find_map(|name| environment.non_empty(name)).map(PathBuf::from);
    let looked = named.map_or_else(|| FILES.map(PathBuf::from).to_vec(), |path| vec![path]);
    let Some(path) = looked.iter().find(|path| path.exists()) else {
        return Err(Error::NoCertificates { looked });
    };
    let wrong = |reason: String| Error::Certificates { path: path.clone(), reason };
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let items: Result<Vec<PemItem<'static>>, _> = parse_pem(&text).collect();
    let certificates: Vec<_> = items
        .map_err(|error| wrong(error.to_string()))?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(wrong("there are none".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::fetch::testing::{Server, certificates};

    fn get(url: &str, most: u64, environment: &Environment) -> (Result<(), Error>, Vec<u8>, u64) {
        let (mut to, mut seen) = (Vec::new(), 0);
        let done = fetch(url, &mut to, most, environment, &mut |has, _| seen = has);
        (done, to, seen)
    }

    #[test]
    fn a_file_comes_whole_from_a_server_that_is_known() {
        let body = vec![7; 300_000];
        let sent = body.clone();
        let server = Server::start(move |path| match path {
            "/moved" => (302, "Location: /file\r\n".to_owned(), Vec::new()),
            "/plain" => (302, "Location: http://localhost:1/file\r\n".to_owned(), Vec::new()),
            "/cut" => (200, "Content-Length: 999999\r\n".to_owned(), sent.clone()),
            "/file" => (200, String::new(), sent.clone()),
            _ => (404, String::new(), Vec::new()),
        });
        let environment = Environment::empty().with("SSL_CERT_FILE", certificates());
        for path in ["/file", "/moved"] {
            let (done, to, seen) = get(&server.url(path), 300_000, &environment);
            done.unwrap();
            assert_eq!((to.len(), seen), (body.len(), 300_000), "{path}");
        }
        assert!(matches!(get(&server.url("/none"), 1, &environment).0, Err(Error::Status { status: 404 })));
        let (large, to, _) = get(&server.url("/file"), 299_999, &environment);
        assert!(matches!(large, Err(Error::TooLarge { .. })) && to.is_empty());
        let cut = get(&server.url("/cut"), u64::MAX, &environment).0.expect_err("cut");
        assert!(cut.may_pass(), "{cut}");
        let plain = get(&server.url("/plain"), 1, &environment).0.expect_err("not https");
        assert!(plain.to_string().contains("https"), "{plain}");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let server = Server::start(|_| (200, String::new(), b"x".to_vec()));
        // Certificates that this server's is not of.
        let others = Environment::empty();
        let (done, to, _) = get(&server.url("/"), 1, &others);
        match done.expect_err("unknown") {
            Error::NoCertificates { .. } => eprintln!("skipped: this machine has no certificates"),
            error => assert!(error.to_string().contains("certificate"), "{error}"),
        }
        assert!(to.is_empty() && server.asked() == 0);
        for (file, reason) in [("/nowhere", "looked for /nowhere"), ("/etc/passwd", "there are none")] {
            let error = get(&server.url("/"), 1, &Environment::empty().with("SSL_CERT_FILE", file)).0;
            let error = error.expect_err(file).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
