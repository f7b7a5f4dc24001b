//! What comes out of a guarded stream.
//!
//! Invariant: nothing that has not passed, and everything that has, once.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n";

struct Ends {
    client: DuplexStream,
    server: Guarded<DuplexStream>,
    door: Arc<Door>,
}

fn ends() -> Ends {
    let (client, server) = duplex(1024 * 1024);
    let door = Arc::new(Door::default());
    let server = Guarded::new(server, Limits::default(), Arc::clone(&door));
    Ends { client, server, door }
}

/// What can be read now, in reads of this size.
async fn readable(server: &mut Guarded<DuplexStream>, size: usize) -> String {
    let (mut text, mut piece) = (Vec::new(), vec![0; size]);
    while let Ok(read) = tokio::time::timeout(Duration::from_millis(20), server.read(&mut piece)).await {
        match read.unwrap() {
            0 => break,
            size => text.extend_from_slice(&piece[..size]),
        }
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_head_comes_out_only_when_it_is_whole() {
    let Ends { mut client, mut server, .. } = ends();
    client.write_all(&GET.as_bytes()[..20]).await.unwrap();
    assert_eq!(readable(&mut server, 100).await, "");
    client.write_all(&GET.as_bytes()[20..]).await.unwrap();
    client.write_all(b"GET /b").await.unwrap();
    assert_eq!(readable(&mut server, 100).await, GET);
}

#[tokio::test]
async fn small_reads_get_everything_too() {
    let Ends { mut client, mut server, .. } = ends();
    client.write_all(&GET.as_bytes()[..5]).await.unwrap();
    assert_eq!(readable(&mut server, 3).await, "");
    client.write_all(&[&GET.as_bytes()[5..], GET.as_bytes()].concat()).await.unwrap();
    assert_eq!(readable(&mut server, 3).await, [GET, GET].concat());
}

#[tokio::test]
async fn a_stand_in_comes_in_place_of_what_is_refused() {
    let Ends { mut client, mut server, door } = ends();
    client.write_all(format!("{GET}HEAD / HTTP/1.1\r\nbad\r\n\r\n{GET}").as_bytes()).await.unwrap();
    drop(client);
    assert_eq!(readable(&mut server, 100).await, format!("{GET}HEAD {STAND_IN} HTTP/1.1\r\n\r\n"));
    let refusal = door.refusal(&STAND_IN.parse().unwrap()).unwrap();
    assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
    assert!(door.refusal(&"/".parse().unwrap()).is_none());
}

#[tokio::test]
async fn a_broken_body_is_an_error() {
    let Ends { mut client, mut server, .. } = ends();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(format!("{head}x\r\n").as_bytes()).await.unwrap();
    let mut read = vec![0; head.len()];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn behind_an_upgrade_everything_comes_out() {
    let Ends { mut client, mut server, door } = ends();
    client.write_all(format!("{GET}{UPGRADE}\x01\x02").as_bytes()).await.unwrap();
    assert_eq!(readable(&mut server, 100).await, [GET, UPGRADE].concat());
    door.answered(StatusCode::OK);
    assert_eq!(readable(&mut server, 100).await, "", "that was the answer to the first");
    door.answered(StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(readable(&mut server, 100).await, "\x01\x02");
    client.write_all(b"\n\x03").await.unwrap();
    assert_eq!(readable(&mut server, 100).await, "\n\x03");
}

#[tokio::test]
async fn behind_an_upgrade_that_did_not_come_the_next_request_is_read() {
    let Ends { mut client, mut server, door } = ends();
    client.write_all([UPGRADE, GET].concat().as_bytes()).await.unwrap();
    assert_eq!(readable(&mut server, 100).await, UPGRADE);
    door.answered(StatusCode::OK);
    assert_eq!(readable(&mut server, 100).await, GET);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_listened_to_for_a_while() {
    let Ends { mut client, mut server, .. } = ends();
    client.write_all(b"bad\r\n").await.unwrap();
    assert_ne!(readable(&mut server, 100).await, "");
    let begun = tokio::time::Instant::now();
    server.shutdown().await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), LINGER.as_secs());
}

#[test]
fn an_upgraded_stream_may_leave_its_thread() {
    fn is_send<T: Send>() {}
    is_send::<Guarded<DuplexStream>>();
}

#[tokio::test]
async fn a_stream_that_is_taken_back_begins_anew() {
    let Ends { mut client, mut server, door } = ends();
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(readable(&mut server, 100).await, GET);
    door.answered(StatusCode::OK);
    let inner = server.between_requests().unwrap();
    let mut server = Guarded::new(inner, Limits::default(), door);
    client.write_all(format!("{UPGRADE}\x01").as_bytes()).await.unwrap();
    assert_eq!(readable(&mut server, 100).await, UPGRADE, "the answers before do not count");
}

#[tokio::test]
async fn a_stream_is_not_taken_back_in_the_middle_or_after_a_refusal() {
    for sent in [
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        "bad\r\n\r\n",
        UPGRADE,
    ] {
        let Ends { mut client, mut server, .. } = ends();
        client.write_all(sent.as_bytes()).await.unwrap();
        readable(&mut server, 100).await;
        assert!(server.between_requests().is_none(), "{sent:?}");
    }
    let _ = ends().server.into_inner();
}

#[tokio::test]
async fn hints_are_written_at_a_flush_however_slowly_they_are_read() {
    let (client, server) = duplex(5);
    let door = Arc::new(Door::default());
    let mut server = Guarded::new(server, Limits::default(), Arc::clone(&door));
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        let mut client = client;
        client.read_to_string(&mut text).await.unwrap();
        text
    });
    server.write_all(b"before").await.unwrap();
    door.hints.put(b"first hint, ");
    {
        let mut flushing = Box::pin(server.flush());
        // Some of the first is written by then, and the second one comes.
        let waits = std::future::poll_fn(|cx| Poll::Ready(flushing.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        door.hints.put(b"second hint, ");
        flushing.await.unwrap();
    }
    assert!(!door.hints.is_filled() && door.hints.take().is_empty());
    server.write_all(b"after").await.unwrap();
    drop(server);
    assert_eq!(reading.await.unwrap(), "beforefirst hint, second hint, after");
}
