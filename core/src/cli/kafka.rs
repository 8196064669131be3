//! The client commands' way to ask in Kafka's protocol: one connection to each broker, one question at a time.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use heddle_net::frame::{FrameOptions, FrameReader, Protocol};
use heddle_net::kafka::client::{decode_reply, encode_request};
use heddle_net::kafka::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
};
use heddle_net::kafka::{ApiKey, Decodable, Encodable, StrBytes};
use heddle_net::socket::{ConnectError, Stream, WriteHalf};
use heddle_proto::error::ErrorCode;
use heddle_proto::limits::FRAME_BYTES_MAX;

use super::CliError;
use super::session::address;
use crate::runtime::time;

/// A broker that does not answer the connection by then is called unreachable.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A coordinator that is still loading is asked again, so long and this often.
const COORDINATOR_TIME_MAX: Duration = Duration::from_secs(30);
const COORDINATOR_PAUSE: Duration = Duration::from_millis(200);

/// Connections to the brokers of a cluster.
pub struct KafkaSession {
    server: String,
    connections: BTreeMap<String, Connection>,
}

struct Connection {
    frames: FrameReader,
    write: WriteHalf,
    correlation: i32,
}

impl KafkaSession {
    /// No connection yet; `server` is where to begin.
    pub fn new(server: &str) -> KafkaSession {
        KafkaSession { server: server.to_owned(), connections: BTreeMap::new() }
    }

    /// Asks the broker at `at` and waits for its reply; `what` says what for, in errors.
    pub async fn ask<Q: Encodable, R: Decodable>(
        &mut self,
        at: &str,
        what: &str,
        (api, version): (ApiKey, i16),
        request: &Q,
    ) -> Result<R, CliError> {
        if !self.connections.contains_key(at) {
            let connection = self.connect(at).await?;
            self.connections.insert(at.to_owned(), connection);
        }
        let lost = |detail: String| CliError::Lost { server: at.to_owned(), what: what.to_owned(), detail };
        let Some(connection) = self.connections.get_mut(at) else {
            return Err(lost("the connection is gone".to_owned()));
        };
        let reply = connection.ask(api, version, request).await;
        if reply.is_err() {
            self.connections.remove(at);
        }
        reply.map_err(|error| lost(error.to_string()))
    }

    async fn connect(&self, at: &str) -> Result<Connection, CliError> {
        let stream = Stream::connect(at, CONNECT_TIME_MAX).await.map_err(|error| match error {
            ConnectError::Resolve { source, .. } | ConnectError::Refused { source, .. } => {
                let hint = match at == self.server {
                    true => String::new(),
                    false => format!(" This address was told by {}.", self.server),
                };
                CliError::Unreachable { server: at.to_owned(), detail: source.to_string(), hint }
            }
        })?;
        let (read, write) = stream.into_split();
        let frames = FrameReader::with_protocol(read, FrameOptions::new(FRAME_BYTES_MAX), Protocol::Kafka);
        Ok(Connection { frames, write, correlation: 0 })
    }

    /// The addresses of all brokers.
    pub async fn brokers(&mut self) -> Result<Vec<String>, CliError> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let server = self.server.clone();
        let reply: MetadataResponse =
            self.ask(&server, "the list of brokers", (ApiKey::Metadata, 9), &request).await?;
        Ok(reply.brokers.iter().map(|broker| address(&broker.host, broker.port as u16)).collect())
    }

    /// The address of the coordinator of a group.
    pub async fn coordinator(&mut self, group: &str) -> Result<String, CliError> {
        let what = format!("the coordinator of group `{group}`");
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        let server = self.server.clone();
        let reply: FindCoordinatorResponse =
            self.ask(&server, &what, (ApiKey::FindCoordinator, 3), &request).await?;
        match reply.error_code {
            0 => Ok(address(&reply.host, reply.port as u16)),
            code => {
                let words = reply.error_message.map(|words| words.to_string());
                Err(refused(what, code, words))
            }
        }
    }

    /// Asks the coordinator of a group, again while it loads its state; `error_of` finds the error in the reply.
    pub async fn ask_coordinator<Q: Encodable, R: Decodable>(
        &mut self,
        group: &str,
        api: (ApiKey, i16),
        request: &Q,
        error_of: impl Fn(&R) -> i16,
    ) -> Result<R, CliError> {
        let what = format!("group `{group}`");
        let deadline = Instant::now() + COORDINATOR_TIME_MAX;
        loop {
            let at = self.coordinator(group).await?;
            let reply = self.ask(&at, &what, api, request).await?;
            let code = ErrorCode::from_code(error_of(&reply)).unwrap_or(ErrorCode::UnknownServerError);
            let again = matches!(
                code,
                ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
            );
            match code {
                _ if again && Instant::now() < deadline => time::sleep(COORDINATOR_PAUSE).await,
                ErrorCode::None => return Ok(reply),
                code => return Err(refused(what, code.code(), None)),
            }
        }
    }
}

impl Connection {
    async fn ask<Q: Encodable, R: Decodable>(
        &mut self,
        api: ApiKey,
        version: i16,
        request: &Q,
    ) -> io::Result<R> {
        self.correlation += 1;
        let name = concat!("heddle ", env!("CARGO_PKG_VERSION"));
        let bytes =
            encode_request(api, version, self.correlation, name, request).map_err(io::Error::other)?;
        self.write.write_all_vectored(&[bytes]).await?;
        let frame = self.frames.next().await.map_err(io::Error::other)?;
        let frame = frame.ok_or_else(|| io::Error::other("the connection was closed"))?;
        let (correlation, reply) = decode_reply(api, version, frame.freeze()).map_err(io::Error::other)?;
        match correlation == self.correlation {
            true => Ok(reply),
            false => Err(io::Error::other("a reply to another request came")),
        }
    }
}

/// A refusal in a user's words.
pub fn refused(what: String, code: i16, words: Option<String>) -> CliError {
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    CliError::Refused { what, code, message: words.unwrap_or_else(|| code.description().to_owned()) }
}
