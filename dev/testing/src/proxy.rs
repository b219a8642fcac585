//! A TCP proxy in front of a server, as of a cloud, whose server can be made to disappear.

use std::net::SocketAddr;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What the proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Connects them to the server.
    Forward,
    /// Accepts and closes them.
    Close,
    /// Accepts them and answers what no server would.
    Garbage,
    /// Accepts them and says nothing.
    Silence,
}

/// A proxy on a port of 127.0.0.1, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of a database; the URL of the database through it is [`Proxy::url`].
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(database_url: &str, mode: Mode) -> Self {
        let (_, server, _) = parts(database_url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let (mode, modes) = watch::channel(mode);
        let server = server.to_owned();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server.clone(), modes.clone()));
            }
        });
        Self { address, mode, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The database through the proxy.
    #[must_use]
    pub fn url(&self, database_url: &str) -> String {
        let (before, _, after) = parts(database_url);
        format!("{before}{}{after}", self.address)
    }

    /// From now on it does this; connections that are open break.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn serve(mut client: TcpStream, server: String, mut modes: watch::Receiver<Mode>) {
    let mode = *modes.borrow_and_update();
    let served = async {
        match mode {
            Mode::Forward => {
                let mut server = TcpStream::connect(server).await?;
                copy_bidirectional(&mut client, &mut server).await?;
            }
            Mode::Close => (),
            Mode::Garbage => {
                client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await?;
                // Closed at once, the answer may not arrive.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Mode::Silence => std::future::pending().await,
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        _ = served => (),
        _ = modes.changed() => (),
    }
}

/// What stands before the server in a URL, the server with its port, and what stands after it.
fn parts(url: &str) -> (&str, &str, &str) {
    let begin = url.rfind('@').map_or_else(|| url.find("://").map_or(0, |at| at + 3), |at| at + 1);
    let end = url[begin..].find(['/', '?']).map_or(url.len(), |at| begin + at);
    (&url[..begin], &url[begin..end], &url[end..])
}
