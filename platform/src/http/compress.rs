//! Compression of answers.
//!
//! Invariant: an answer below the limit costs one comparison, and an answer that would look different to a client with
//! other abilities says so (`Vary`).

use actix_http::encoding::Encoder;
use actix_web::HttpRequest;
use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{
    self, AcceptEncoding, ContentEncoding, Encoding, Header, HeaderMap, HeaderValue,
};

/// An answer's body as it leaves: as the handler made it, or another in its place.
pub(super) type Body<B> = EitherBody<B, BoxBody>;

/// Compresses the body if it is worth it and the client accepts it.
pub(super) fn compress<B: MessageBody + 'static>(
    response: ServiceResponse<Body<B>>,
    min_bytes: u64,
) -> ServiceResponse<Body<B>> {
    let is_large = match response.response().body().size() {
        BodySize::None => false,
        BodySize::Sized(bytes) => bytes >= min_bytes,
        BodySize::Stream => true,
    };
    if !is_large || !is_compressible(response.headers()) {
        return response;
    }
    let coding = accepted(response.request());
    response.map_body(|head, body| {
        if coding == ContentEncoding::Identity {
            head.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
            return body;
        }
        // The encoder adds `Content-Encoding` and `Vary` itself.
        EitherBody::right(BoxBody::new(Encoder::response(coding, head, body)))
    })
}

/// Texts that nobody compressed yet. An event stream stays as it is: an encoder would hold events back.
fn is_compressible(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(media_type) = media_type.filter(|_| !headers.contains_key(header::CONTENT_ENCODING)) else {
        return false;
    };
    let media_type = media_type.split(';').next().unwrap_or_default().trim_end();
    let is_text = media_type.starts_with("text/") && media_type != "text/event-stream";
    let formats = ["json", "javascript", "xml", "openmetrics-text"];
    is_text || formats.iter().any(|format| media_type.ends_with(format))
}

fn accepted(request: &HttpRequest) -> ContentEncoding {
    let supported = [Encoding::brotli(), Encoding::gzip(), Encoding::identity()];
    let chosen =
        AcceptEncoding::parse(request).ok().and_then(|accepted| accepted.negotiate(supported.iter()));
    match chosen {
        Some(Encoding::Known(coding)) => coding,
        // A client that accepts nothing at all is better served as is than not at all.
        _ => ContentEncoding::Identity,
    }
}
