//! The client's side of one connection: frames as bytes, replies taken apart as a client does.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use heddle_net::kafka::{
    ApiKey, Encodable, RequestHeader, StrBytes, decode_fetch, decode_header, decode_produce, is_served,
    messages::{self, ResponseKind},
};

/// What is not answered after this long never is.
pub const HANG: Duration = Duration::from_secs(20);

/// What may wait for others is waited for so long.
const PATIENCE: Duration = Duration::from_millis(60);

/// The largest reply that this broker has a reason to give, in bytes.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A connection to one core.
pub struct Client {
    stream: TcpStream,
    correlation: i32,
}

/// What comes back to a frame.
#[derive(Debug)]
pub enum Heard {
    /// A whole frame without its length.
    Reply(Bytes),
    /// Nothing more comes.
    Closed,
    /// Nothing yet.
    Silence,
}

/// What a frame, read as the broker reads it, makes one expect.
#[derive(Debug)]
pub enum Expected {
    /// A reply to this header, at once.
    Reply(RequestHeader),
    /// A reply to this header, when something happens or its time is over.
    Later(RequestHeader),
    /// No reply, by the client's wish.
    Nothing,
    /// The end of the connection: it is no request.
    End,
}

impl Expected {
    /// Reads a frame without its length.
    pub fn of(frame: &[u8]) -> Expected {
        let mut body = BytesMut::from(frame);
        let Ok(header) = decode_header(&mut body) else { return Expected::End };
        match header.api {
            _ if !is_served(header.api, header.version) => Expected::Reply(header),
            ApiKey::Produce => match decode_produce(&header, body) {
                Ok(request) if request.acks == 0 => Expected::Nothing,
                _ => Expected::Reply(header),
            },
            ApiKey::Fetch => match decode_fetch(&header, body) {
                Ok(request) if request.wait_max_ms > 0 => Expected::Later(header),
                _ => Expected::Reply(header),
            },
            ApiKey::JoinGroup | ApiKey::SyncGroup => Expected::Later(header),
            _ => Expected::Reply(header),
        }
    }
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("nodelay can be set");
        stream.set_write_timeout(Some(HANG)).expect("a timeout can be set");
        Client { stream, correlation: 0 }
    }

    /// Sends a frame behind its length; that the broker has closed the connection meanwhile is fine.
    pub fn send(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("frames of tests are small");
        self.send_bytes(&[&length.to_be_bytes()[..], frame].concat());
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => {}
            Err(error) => panic!("sending failed: {error}"),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next frame; `Silence` only if it may come later.
    pub fn hear(&mut self, may_come_later: bool) -> Heard {
        let patience = if may_come_later { PATIENCE } else { HANG };
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
        let mut first = [0; 1];
        match self.stream.read(&mut first) {
            Ok(0) => return Heard::Closed,
            Ok(_) => {}
            Err(error) if is_closed(&error) => return Heard::Closed,
            Err(error) if is_timeout(&error) && may_come_later => return Heard::Silence,
            Err(error) => panic!("the broker neither answers nor closes the connection: {error}"),
        }
        self.stream.set_read_timeout(Some(HANG)).expect("a timeout can be set");
        let mut rest = [0; 3];
        if !self.read_whole(&mut rest) {
            return Heard::Closed;
        }
        let length = i32::from_be_bytes([first[0], rest[0], rest[1], rest[2]]);
        let length = usize::try_from(length).expect("a reply has a length");
        assert!((4..=REPLY_BYTES_MAX).contains(&length), "a reply of {length} bytes");
        let mut body = vec![0; length];
        if self.read_whole(&mut body) { Heard::Reply(body.into()) } else { Heard::Closed }
    }

    /// False when the connection ended before.
    fn read_whole(&mut self, into: &mut [u8]) -> bool {
        match self.stream.read_exact(into) {
            Ok(()) => true,
            Err(error) if is_closed(&error) => false,
            Err(error) => panic!("a reply broke off: {error}"),
        }
    }

    /// Sends a request and reads its reply.
    pub fn ask(&mut self, api: ApiKey, version: i16, request: &impl Encodable) -> ResponseKind {
        self.correlation += 1;
        let header = messages::RequestHeader::default()
            .with_request_api_key(api as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("good")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, api.request_header_version(version)).expect("a header encodes");
        request.encode(&mut frame, version).expect("a request encodes");
        self.send(&frame);
        let Heard::Reply(reply) = self.hear(false) else { panic!("{api:?} v{version} is not answered") };
        let (correlation, reply) = read_reply(api, version, &reply);
        assert_eq!(correlation, self.correlation);
        reply
    }
}

/// Takes a frame apart as the reply it should be.
pub fn read_reply(api: ApiKey, version: i16, frame: &Bytes) -> (i32, ResponseKind) {
    let mut with_length = BytesMut::with_capacity(4 + frame.len());
    with_length.put_u32(frame.len() as u32);
    with_length.put_slice(frame);
    heddle_samples::read_reply(api, version, with_length.freeze())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
