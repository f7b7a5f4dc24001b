//! Answers given without a request that could be answered: the connection is one too many, or its request never came.
//!
//! Invariant: the client hears the answer; what it still sends is read for a moment, because closing on unread bytes
//! resets the connection and loses the answer.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client::stats::Refusing;

/// How long the client is listened to afterwards.
const LAST_WORDS: Duration = Duration::from_secs(1);
const FULL: &str = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
                    \"detail\":\"too many connections are open\"}";
const TOO_SLOW: &str = "{\"type\":\"about:blank\",\"title\":\"Request Timeout\",\"status\":408,\
                        \"detail\":\"the request did not arrive in time\"}";

/// Too many connections are open. Holds the drain as every connection does.
pub(crate) async fn full(stream: TcpStream, _refusing: Refusing, _drain: watch::Receiver<bool>) {
    say(stream, "503 Service Unavailable\r\nretry-after: 1", FULL).await;
}

/// The head of a request took too long.
pub(crate) async fn too_slow(stream: impl AsyncRead + AsyncWrite + Unpin) {
    say(stream, "408 Request Timeout", TOO_SLOW).await;
}

/// Ends a stream as its kind wants it: with a FIN, over TLS with a word before.
pub(crate) async fn close(mut stream: impl AsyncWrite + Unpin) {
    // A client that does not take it is gone already.
    let _ = timeout(LAST_WORDS, stream.shutdown()).await;
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: &str, document: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{document}",
        document.len()
    );
    let _ = timeout(LAST_WORDS, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut unread = [0; 512];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
