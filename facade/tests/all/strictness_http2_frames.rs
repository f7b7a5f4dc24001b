//! The cases of the HTTP/2 table that are about frames: their order, their sizes, and how many of them there are.
//!
//! Invariant: as in `strictness_http2_cases`.

use crate::frames::{
    ALL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, fields, frame,
};
use crate::strictness_http2_cases::{
    Allow, Case, Class, Field, MALFORMED, UNREADABLE, block, data, get, join, last, post, trailers,
};

const PROTOCOL: Allow = &["goaway(PROTOCOL_ERROR)"];
/// The connection ends, which is what counts; some say so by a code less exact than the RFC's.
const SIZE: Allow = &["goaway(FRAME_SIZE_ERROR)", "goaway(PROTOCOL_ERROR)"];
const FLOW: Allow = &["goaway(FLOW_CONTROL_ERROR)", "goaway(PROTOCOL_ERROR)"];
const HPACK: Allow = &["goaway(COMPRESSION_ERROR)", "goaway(PROTOCOL_ERROR)"];
/// A stream that has ended (RFC 9113 §5.1).
const ENDED: Allow =
    &["goaway(STREAM_CLOSED)", "goaway(PROTOCOL_ERROR)", "200 open", "reset(STREAM_CLOSED) open"];
/// A flood ends the connection, or does no harm.
const FLOOD: Allow = &["goaway(ENHANCE_YOUR_CALM)", "goaway(PROTOCOL_ERROR)", "close", "open"];

pub(crate) fn cases() -> Vec<Case> {
    [states(), blocks(), frames(), floods()].into_iter().flatten().collect()
}

fn states() -> Vec<Case> {
    let class = Class("Frames in the wrong state", "9113 §5.1");
    let tail = Class("Trailers", "9113 §8.1");
    let of = |list: &[Field]| join(&[post(&[]), data("body"), trailers(list)]);
    // Announced, because hyper writes no others.
    let quoted = join(&[post(&[("trailer", "x\"a")]), data("body"), trailers(&[("x\"a", "1")])]);
    vec![
        class.case("data-after-the-end", ENDED, join(&[get(&[]), last("late")])),
        class.case(
            "headers-after-the-end",
            &["goaway(STREAM_CLOSED)", "200 open", "reset(STREAM_CLOSED) open", "goaway(PROTOCOL_ERROR)"],
            join(&[get(&[]), get(&[])]),
        ),
        class.case("data-before-headers", PROTOCOL, join(&[last("early"), get(&[])])),
        class.case(
            "window-update-of-an-idle-stream",
            PROTOCOL,
            join(&[frame(WINDOW_UPDATE, 0, 7, &[0, 0, 0, 1]), get(&[])]),
        ),
        class.case(
            "reset-of-an-idle-stream",
            PROTOCOL,
            join(&[frame(RST_STREAM, 0, 7, &[0, 0, 0, 8]), get(&[])]),
        ),
        class.case("even-stream", PROTOCOL, frame(HEADERS, ALL, 2, &block("GET", &[]))),
        class.case("headers-on-stream-zero", PROTOCOL, frame(HEADERS, ALL, 0, &block("GET", &[]))),
        class.case("data-on-stream-zero", PROTOCOL, frame(DATA, END_STREAM, 0, b"body")),
        class.case(
            "stream-that-goes-back",
            &["goaway(PROTOCOL_ERROR)", "goaway(STREAM_CLOSED)"],
            join(&[frame(HEADERS, ALL, 9, &block("GET", &[])), get(&[])]),
        ),
        class.case("push-promise", PROTOCOL, frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        tail.case(
            "trailers-without-the-end",
            MALFORMED,
            join(&[post(&[]), data("body"), frame(HEADERS, END_HEADERS, 1, &fields(&[("x", "1")]))]),
        ),
        tail.case(
            "headers-after-trailers",
            &["goaway(STREAM_CLOSED)", "reset(STREAM_CLOSED) open", "200 open", "goaway(PROTOCOL_ERROR)"],
            join(&[of(&[("x", "1")]), trailers(&[("y", "1")])]),
        ),
        tail.case("data-after-trailers", ENDED, join(&[of(&[("x", "1")]), last("more")])),
        tail.case(
            "pseudo-in-trailers",
            &["200 open", "400 open", "reset(PROTOCOL_ERROR) open"],
            of(&[(":path", "/smuggled")]),
        )
        .why("hyper drops it; it reaches nobody"),
        tail.case("quotation-mark-in-trailers", MALFORMED, quoted),
        tail.case("space-around-a-trailer", MALFORMED, of(&[("x", " 1")])),
        tail.case("host-in-trailers", MALFORMED, of(&[("host", "b")])),
        tail.case("upper-case-in-trailers", MALFORMED, of(&[("X-Upper", "1")])),
        tail.case("connection-in-trailers", MALFORMED, of(&[("connection", "close")])),
        tail.case("transfer-encoding-in-trailers", MALFORMED, of(&[("transfer-encoding", "chunked")])),
        tail.case(
            "length-in-trailers",
            &["400 open", "reset(PROTOCOL_ERROR) open", "200 open"],
            of(&[("content-length", "1")]),
        )
        .why("9110 §6.5.1: to be ignored, or refused; not passed on"),
        tail.case("crlf-in-trailers", UNREADABLE, of(&[("x", "1\r\n\r\nGET /smuggled HTTP/1.1")])),
    ]
}

fn blocks() -> Vec<Case> {
    let class = Class("Header blocks", "9113 §4.3, 7541");
    let sizes = Class("Sizes", "9113 §10.5.1");
    let with = |tail: &[u8]| frame(HEADERS, ALL, 1, &[&block("GET", &[])[..], tail].concat());
    let too_large: Allow = &[
        "431 open",
        "400 open",
        "reset(PROTOCOL_ERROR) open",
        "reset(REFUSED_STREAM) open",
        "goaway(ENHANCE_YOUR_CALM)",
        "goaway(PROTOCOL_ERROR)",
        "goaway(COMPRESSION_ERROR)",
    ];
    let many: Vec<Field> = vec![("x-a", "1"); 150];
    let begun = frame(HEADERS, END_STREAM, 1, &block("GET", &[]));
    vec![
        class.case("index-zero", HPACK, with(&[0x80])),
        class.case("index-out-of-range", HPACK, with(&[0xff, 0x80, 0x01])),
        class.case("integer-without-end", HPACK, with(&[0xff; 12])),
        class.case("string-without-end", HPACK, with(&[0x00, 0x7f])),
        class.case("huffman-with-bad-padding", HPACK, with(&[0x00, 0x81, 0x00, 0x01, b'a'])),
        class.case(
            "table-larger-than-agreed",
            HPACK,
            frame(HEADERS, ALL, 1, &[&[0x3f, 0xff, 0xff, 0x7f][..], &block("GET", &[])].concat()),
        ),
        class.case("table-size-in-the-middle", HPACK, with(&[0x20])).why("7541 §4.2: only at the beginning"),
        class.case(
            "continuation-without-headers",
            PROTOCOL,
            frame(CONTINUATION, END_HEADERS, 1, &block("GET", &[])),
        ),
        class.case(
            "continuation-of-another-stream",
            PROTOCOL,
            join(&[begun.clone(), frame(CONTINUATION, END_HEADERS, 3, &[])]),
        ),
        class.case("another-frame-within-a-block", PROTOCOL, join(&[begun, frame(PING, 0, 0, &[0; 8])])),
        class.case("padding-longer-than-the-frame", PROTOCOL, frame(HEADERS, ALL | PADDED, 1, &[200, 0x82])),
        sizes.case("a-large-header", too_large, {
            let big = block("GET", &[("x-a", &"a".repeat(60_000))]);
            let pieces: Vec<_> = big.chunks(16_000).collect();
            let last = pieces.len() - 1;
            pieces
                .iter()
                .enumerate()
                .flat_map(|(number, piece)| {
                    let kind = if number == 0 { HEADERS } else { CONTINUATION };
                    let flags = if number == 0 { END_STREAM } else { 0 }
                        | if number == last { END_HEADERS } else { 0 };
                    frame(kind, flags, 1, piece)
                })
                .collect()
        }),
        sizes.case("many-headers", too_large, get(&many)),
    ]
}

fn frames() -> Vec<Case> {
    let class = Class("Frames", "9113 §6");
    let setting = |id: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat());
    let window = |stream, size: u32| frame(WINDOW_UPDATE, 0, stream, &size.to_be_bytes());
    let priority = [&[0, 0, 0, 1, 16][..], &block("GET", &[])].concat();
    let self_dependent: Allow = &["200 open", "reset(PROTOCOL_ERROR) open", "goaway(PROTOCOL_ERROR)"];
    vec![
        class.case("frame-too-large", SIZE, frame(DATA, END_STREAM, 1, &[0; 16_385])),
        class.case("headers-too-large", SIZE, frame(HEADERS, ALL, 1, &[0; 16_385])),
        class.case("ping-of-seven-bytes", SIZE, frame(PING, 0, 0, &[0; 7])),
        class.case("ping-on-a-stream", PROTOCOL, frame(PING, 0, 1, &[0; 8])),
        class.case("settings-of-five-bytes", SIZE, frame(SETTINGS, 0, 0, &[0; 5])),
        class.case("settings-on-a-stream", PROTOCOL, frame(SETTINGS, 0, 1, &[])),
        class.case("acknowledgement-with-a-payload", SIZE, frame(SETTINGS, 1, 0, &[0; 6])),
        class.case("push-that-is-no-boolean", PROTOCOL, setting(2, 2)),
        class.case("window-too-large-by-settings", FLOW, setting(4, 1 << 31)),
        class.case("frame-size-too-small", PROTOCOL, setting(5, 100)),
        class.case("unknown-setting", &["200 open"], join(&[setting(0x77, 1), get(&[])])),
        class.case("window-of-zero", &["goaway(PROTOCOL_ERROR)", "goaway(FLOW_CONTROL_ERROR)"], window(0, 0)),
        class.case("window-overflow", FLOW, join(&[window(0, i32::MAX as u32), window(0, i32::MAX as u32)])),
        class
            .case(
                "window-overflow-of-a-stream",
                &["reset(FLOW_CONTROL_ERROR) open", "goaway(FLOW_CONTROL_ERROR)", "200 open"],
                join(&[post(&[]), window(1, i32::MAX as u32), window(1, i32::MAX as u32), last("")]),
            )
            .why("200 where the answer was there before"),
        class.case("window-update-of-three-bytes", SIZE, frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        class.case("reset-of-three-bytes", SIZE, join(&[get(&[]), frame(RST_STREAM, 0, 1, &[0; 3])])),
        class.case("goaway-on-a-stream", PROTOCOL, frame(GOAWAY, 0, 1, &[0; 8])),
        class
            .case(
                "stream-that-depends-on-itself",
                self_dependent,
                frame(HEADERS, ALL | WITH_PRIORITY, 1, &priority),
            )
            .why("9113 §5.3.2 has done away with priorities"),
        class.case(
            "priority-on-itself",
            self_dependent,
            join(&[frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16]), get(&[])]),
        ),
        class.case(
            "priority-of-four-bytes",
            &[
                "reset(FRAME_SIZE_ERROR) open",
                "goaway(FRAME_SIZE_ERROR)",
                "goaway(PROTOCOL_ERROR)",
                "200 open",
            ],
            join(&[frame(PRIORITY, 0, 1, &[0; 4]), get(&[])]),
        ),
    ]
}

fn floods() -> Vec<Case> {
    let class = Class("Floods", "9113 §10.5");
    let cancelled = |count: u32| -> Vec<u8> {
        let one = |stream| {
            join(&[
                frame(HEADERS, ALL, stream, &block("GET", &[])),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ])
        };
        (0..count).flat_map(|number| one(103 + 2 * number)).collect()
    };
    let begun = frame(HEADERS, END_STREAM, 1, &block("GET", &[]));
    let pieces = |count, piece: &[u8]| join(&[begun.clone(), frame(CONTINUATION, 0, 1, piece).repeat(count)]);
    // Against a limit of 2^31-1 bytes in flight, a window that goes up and down costs each stream a visit.
    let windows =
        join(&[frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])]);
    vec![
        class
            .case("continuations-without-end", FLOOD, pieces(400, &fields(&[("x-a", &"a".repeat(8_000))])))
            .flood(),
        class.case("empty-continuations", FLOOD, pieces(20_000, &[])).flood(),
        class
            .case(
                "rapid-reset",
                &["goaway(ENHANCE_YOUR_CALM)", "goaway(PROTOCOL_ERROR)", "close"],
                cancelled(1_000),
            )
            .flood()
            .why("CVE-2023-44487; the request behind has a lower number by then"),
        class
            .case("settings-flood", FLOOD, frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(10_000))
            .flood(),
        class.case("window-settings-flood", FLOOD, windows.repeat(5_000)).flood(),
        class.case("ping-flood", FLOOD, frame(PING, 0, 0, &[0; 8]).repeat(20_000)).flood(),
        class.case("priority-flood", FLOOD, frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]).repeat(20_000)).flood(),
        class.case("empty-data-flood", FLOOD, join(&[post(&[]), data("").repeat(20_000), last("")])).flood(),
        class
            .case(
                "reset-by-own-errors",
                FLOOD,
                (0..40)
                    .flat_map(|number| frame(HEADERS, ALL, 1 + 2 * number, &block("GET", &[("X", "1")])))
                    .collect(),
            )
            .flood()
            .why("MadeYouReset, CVE-2025-8671"),
    ]
}
