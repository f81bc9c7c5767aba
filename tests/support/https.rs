//! An https server for tests, whose certificate only the tests' own authority vouches for.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The status line's number, further header lines, and the body.
pub type Answer = (u16, String, Vec<u8>);
type Answers = Arc<Mutex<Box<dyn Fn(&str) -> Answer + Send>>>;

/// Answers until the test ends.
pub struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// One that answers a path so.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let certificate = CertificateDer::from_pem_file(file("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        let (config, asked) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
        let (answers, count): (Answers, _) = (Arc::new(Mutex::new(Box::new(answer))), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answers, count) =
                    (Arc::clone(&config), Arc::clone(&answers), Arc::clone(&count));
                thread::spawn(move || serve(stream, config, &answers, &count));
            }
        });
        Self { port, asked }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// How often it was asked for something.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The certificates of the authority, for `SSL_CERT_FILE`.
pub fn certificates() -> PathBuf {
    file("ca.pem")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/https").join(name)
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, answers: &Answers, count: &AtomicUsize) {
    let connection = ServerConnection::new(config).expect("a connection");
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        // Who does not trust us goes away.
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, headers, body) = answers.lock().unwrap_or_else(PoisonError::into_inner)(path);
    let length = if headers.contains("Content-Length") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let head = format!("HTTP/1.1 {status} X\r\n{headers}{length}Connection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    stream.conn.send_close_notify();
    let _ = stream.flush();
}
