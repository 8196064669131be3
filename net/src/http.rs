//! A small HTTP/1.1 server for admin, metrics and health: one handler, whole requests in, whole responses
//! out.
//!
//! Every size is bounded: headers, their count, the body, and the connections open at once; a connection
//! silent for too long is closed. It serves operators and scrapers, not the data path.
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{StatusCode, header};
use thiserror::Error;

use crate::socket::{self, AcceptError, Activity, Listener, Stream};

#[cfg(test)]
mod tests;

/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 4 << 10;

/// How long accepting rests when file descriptors have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Limits of the server.
#[derive(Copy, Clone, Debug)]
pub struct HttpOptions {
    /// Request line and headers together, in bytes; at least 8 KiB.
    pub head_bytes_max: usize,
    /// Headers of one request.
    pub header_count_max: usize,
    /// A request's body, in bytes.
    pub body_bytes_max: usize,
    /// Connections open at once; more are closed at once.
    pub connection_count_max: usize,
    /// A connection that neither reads nor writes for this long is closed.
    pub idle_max: Duration,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            head_bytes_max: 16 << 10,
            header_count_max: 64,
            body_bytes_max: 1 << 20,
            connection_count_max: 256,
            idle_max: Duration::from_secs(30),
        }
    }
}

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method in capitals, such as `GET`.
    pub method: String,
    /// The path, still percent-encoded.
    pub path: String,
    /// What stands after the question mark, still percent-encoded.
    pub query: Option<String>,
    /// The body; empty if there is none.
    pub body: Bytes,
}

/// A response, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code; one outside 100..=999 is sent as 500.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        Response { status, content_type: "text/plain; charset=utf-8", body: Bytes::from(body.into()) }
    }

    /// JSON text.
    pub fn json(status: u16, body: impl Into<String>) -> Response {
        Response { status, content_type: "application/json", body: Bytes::from(body.into()) }
    }
}

/// Why a connection ended other than by its client being done.
#[derive(Debug, Error)]
#[error("HTTP connection failed: {0}")]
pub struct HttpError(#[from] hyper::Error);

/// Accepts and serves connections until the listener is shut down.
pub async fn serve<H, F>(listener: Listener, options: HttpOptions, handler: H)
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    let handler = Rc::new(handler);
    let open_count = Rc::new(Cell::new(0));
    loop {
        match listener.accept().await {
            Ok(stream) if open_count.get() < options.connection_count_max => {
                let open = Open::new(&open_count);
                socket::spawn(serve_and_log(stream, options, handler.clone(), open));
            }
            Ok(refused) => drop(refused),
            Err(AcceptError::Closed) => return,
            Err(AcceptError::Lost(error)) => tracing::debug!(%error, "an HTTP connection was lost"),
            Err(AcceptError::Exhausted(error)) => {
                tracing::warn!(%error, "cannot accept HTTP connections for now");
                socket::pause(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Counts a connection while it lives.
struct Open(Rc<Cell<usize>>);

impl Open {
    fn new(count: &Rc<Cell<usize>>) -> Open {
        count.set(count.get() + 1);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn serve_and_log<H, F>(stream: Stream, options: HttpOptions, handler: Rc<H>, _open: Open)
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    if let Err(error) = serve_connection(stream, options, handler).await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// Serves one connection, keep-alive included, until its client is done.
pub async fn serve_connection<H, F>(
    stream: Stream,
    options: HttpOptions,
    handler: Rc<H>,
) -> Result<(), HttpError>
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let shutdown = stream.shutdown_handle();
    let activity = Activity::default();
    let io = HyperStream { stream, activity: activity.clone(), scratch: vec![0; READ_BYTES].into() };
    let service = service_fn(move |request| respond(request, options, handler.clone()));
    let connection = http1::Builder::new()
        .max_buf_size(options.head_bytes_max.max(8 << 10))
        .max_headers(options.header_count_max)
        .header_read_timeout(None)
        .serve_connection(io, service);
    Ok(socket::close_when_idle(activity, options.idle_max, shutdown, connection).await?)
}

async fn respond<H, F>(
    request: hyper::Request<Incoming>,
    options: HttpOptions,
    handler: Rc<H>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible>
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let (head, body) = request.into_parts();
    let response = match Limited::new(body, options.body_bytes_max).collect().await {
        Ok(body) => {
            let request = Request {
                method: head.method.as_str().to_owned(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().map(str::to_owned),
                body: body.to_bytes(),
            };
            handler(request).await
        }
        Err(error) if error.is::<LengthLimitError>() => {
            Response::text(413, format!("the body is larger than {} bytes\n", options.body_bytes_max))
        }
        Err(error) => Response::text(400, format!("the body could not be read: {error}\n")),
    };
    Ok(encode(response))
}

fn encode(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut encoded = hyper::Response::new(Full::new(response.body));
    *encoded.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    encoded
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(response.content_type));
    encoded
}

/// A [`Stream`] as hyper wants it, noting activity.
struct HyperStream {
    stream: Stream,
    activity: Activity,
    scratch: Box<[u8]>,
}

impl hyper::rt::Read for HyperStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let bytes = this.scratch.len().min(buffer.remaining());
        let count =
            futures_lite::ready!(Pin::new(&mut this.stream).poll_read(cx, &mut this.scratch[..bytes]))?;
        this.activity.note();
        buffer.put_slice(&this.scratch[..count]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for HyperStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = futures_lite::ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.activity.note();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
