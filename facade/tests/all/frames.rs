//! HTTP/2 byte by byte: frames as a hostile client writes them, and as much reading as it takes to hear the answer.
//!
//! Invariant: nothing is checked and nothing is put right on the way out; a test says each byte itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use std::collections::BTreeMap;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;
/// A whole request in one frame.
pub(crate) const ALL: u8 = END_STREAM | END_HEADERS;

/// The stream of the request behind every case.
pub(crate) const NEXT: u32 = 101;
/// Without a byte for so long, nothing more comes.
const SILENCE: Duration = Duration::from_secs(5);
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A frame that says of its length what is true.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without an index, each character a byte.
pub(crate) fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn text(block: &mut Vec<u8>, text: &str) {
    let bytes: Vec<u8> = text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect();
    // RFC 7541 §5.1, with a prefix of seven bits.
    match bytes.len() {
        short @ ..127 => block.push(u8::try_from(short).unwrap()),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend(bytes);
}

/// What came back on one stream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    pub(crate) statuses: Vec<u16>,
    pub(crate) body: Vec<u8>,
    pub(crate) reset: Option<&'static str>,
    pub(crate) ended: bool,
}

impl Heard {
    pub(crate) fn is_over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

/// What came back on a connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) streams: BTreeMap<u32, Heard>,
    /// The code of a GOAWAY.
    pub(crate) goaway: Option<&'static str>,
    pub(crate) closed: bool,
}

impl Conversation {
    pub(crate) fn is_over(&self, stream: u32) -> bool {
        self.streams.get(&stream).is_some_and(Heard::is_over)
    }

    fn hear(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let code = |at: usize| {
            let number =
                payload.get(at..at + 4).map_or(99, |four| u32::from_be_bytes(four.try_into().unwrap()));
            CODES.get(number as usize).copied().unwrap_or("UNKNOWN")
        };
        let heard = self.streams.entry(stream).or_default();
        match kind {
            HEADERS => heard.statuses.extend(status(payload)),
            DATA => heard.body.extend(payload),
            RST_STREAM => heard.reset = Some(code(0)),
            GOAWAY => self.goaway = Some(code(4)),
            _ => return,
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            self.streams.entry(stream).or_default().ended = true;
        }
    }
}

/// Sends the bytes, and hears until all these streams are over, the connection closes, or nothing more comes.
pub(crate) fn converse(address: SocketAddr, bytes: Vec<u8>, streams: &[u32]) -> Conversation {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut writer = socket.try_clone().unwrap();
    // Beside the reading, because a peer may close before it has everything.
    let writing = thread::spawn(move || {
        let _ = writer.write_all(&bytes);
    });
    let mut conversation = Conversation::default();
    let (mut unread, mut piece) = (Vec::new(), [0; 65536]);
    let deadline = Instant::now() + crate::support::PATIENCE;
    while Instant::now() < deadline && !streams.iter().all(|stream| conversation.is_over(*stream)) {
        match socket.read(&mut piece) {
            Ok(0) => {
                conversation.closed = true;
                break;
            }
            Ok(size) => unread.extend_from_slice(&piece[..size]),
            Err(error) => {
                conversation.closed = error.kind() == ErrorKind::ConnectionReset;
                break;
            }
        }
        while let Some(size) = whole_frame(&unread) {
            let stream = u32::from_be_bytes(unread[5..9].try_into().unwrap());
            conversation.hear(unread[3], unread[4], stream, &unread[9..size]);
            unread.drain(..size);
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
    writing.join().unwrap();
    conversation
}

fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(..3)?;
    let size = 9 + u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
    (bytes.len() >= size).then_some(size)
}

/// `:status`, which stands in front (RFC 7541 §6); none in trailers.
fn status(mut block: &[u8]) -> Option<u16> {
    // Updates of the table's size.
    while block.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
        block = &block[1..];
    }
    match block {
        [indexed @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        // A literal of one kind or another, whose name is that of index 8.
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).ok()?.parse().ok(),
        [0x08 | 0x18 | 0x48, size, digits @ ..] if size & 0x80 != 0 => {
            huffman_digits(&digits[..usize::from(size & 0x7f)])
        }
        _ => None,
    }
}

/// `0` to `2` have five bits, the others six (RFC 7541, Appendix B).
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let mut bits =
        bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (32 - 8 * bytes.len());
    let mut number = 0;
    for _ in 0..3 {
        let (digit, width) = match bits >> 27 {
            small @ 0..=2 => (small, 5),
            _ => ((bits >> 26).checked_sub(0x19)? + 3, 6),
        };
        number = number * 10 + u16::try_from(digit).ok()?;
        bits <<= width;
    }
    Some(number)
}

#[test]
fn a_status_is_read_in_each_of_its_codings() {
    assert_eq!(status(&[0x88]), Some(200));
    assert_eq!(status(&[0x20, 0x48, 3, b'5', b'0', b'1']), Some(501));
    // 431: 011010 011001 00001, then ones.
    assert_eq!(status(&[0x08, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111]), Some(431));
    // 302: RFC 7541, C.6.1.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
}
