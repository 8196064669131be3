//! The server against plain sockets: keep-alive, limits, and clients that are slow or speak nonsense.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use super::*;
use crate::socket::{ListenSocket, Share};

/// Serves on a core of its own until the process ends.
fn start(options: HttpOptions) -> SocketAddr {
    let socket = ListenSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), Share::Exclusive).unwrap();
    let address = socket.local_addr();
    std::thread::spawn(move || {
        socket::run_core(async move {
            serve(Listener::attach(socket).unwrap(), options, echo).await;
        });
    });
    address
}

async fn echo(request: Request) -> Response {
    let Request { method, path, query, body } = request;
    match path.as_str() {
        "/bad-status" => Response::text(7, ""),
        _ => Response::text(200, format!("{method} {path} {query:?} {}", body.len())),
    }
}

/// Sends `request` and reads until the server closes.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(request).unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer); // a reset after the answer is fine
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_are_answered_on_one_connection() {
    let address = start(HttpOptions::default());
    let answer = ask(
        address,
        b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n\
          POST /d HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\n123",
    );
    assert!(answer.contains("GET /a Some(\"b=c\") 0"), "{answer}");
    assert!(answer.contains("POST /d None 3"), "{answer}");
    assert!(answer.contains("content-type: text/plain"), "{answer}");
    let answer = ask(address, b"GET /bad-status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
}

#[test]
fn what_is_too_large_is_refused() {
    let address = start(HttpOptions { body_bytes_max: 10, ..HttpOptions::default() });
    let body = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\nconnection: close\r\n\r\n12345678901";
    assert!(ask(address, body).starts_with("HTTP/1.1 413"));
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    assert!(ask(address, head.as_bytes()).starts_with("HTTP/1.1 431"));
    let headers: String = (0..100).map(|i| format!("x{i}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    assert!(ask(address, many.as_bytes()).starts_with("HTTP/1.1 431"));
    assert!(ask(address, b"\x16\x03\x01nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn a_silent_client_is_closed() {
    let address = start(HttpOptions { idle_max: Duration::from_millis(50), ..HttpOptions::default() });
    assert_eq!(ask(address, b"GET / HTTP/1.1\r\nhost"), "");
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let address = start(HttpOptions { connection_count_max: 1, ..HttpOptions::default() });
    let mut first = TcpStream::connect(address).unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(ask(address, request), "");
    drop(first);
    let served_again =
        std::iter::repeat_with(|| ask(address, request)).take(1000).any(|answer| !answer.is_empty());
    assert!(served_again);
}
