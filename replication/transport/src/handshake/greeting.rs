//! One end of a handshake: what it has read and written so far, and the steps that both ends share.

use bytes::{Bytes, BytesMut};
use heddle_net::frame::{ByteSource, FrameOptions, FrameReader, Protocol};
use heddle_net::socket::ShutdownHandle;
use heddle_replication::message::Life;
use heddle_replication_driver::Peer;

use super::{Greeted, HandshakeError, Identity, random, read_whole};
use crate::link::{ByteSink, Link};
use crate::wire::{
    Body, Encoder, HANDSHAKE_FRAME_BYTES_MAX, Hello, LENGTH_BYTES, PREFACE, PREFACE_VERSION_AT, Purpose,
    Refusal, decode,
};

/// How the beginning of a connection is read: never more than a few small frames.
const OPTIONS: FrameOptions = FrameOptions {
    frame_bytes_max: HANDSHAKE_FRAME_BYTES_MAX,
    chunk_bytes_max: 4 << 10,
    eager_bytes: HANDSHAKE_FRAME_BYTES_MAX,
};

/// See the module.
pub(super) struct Greeting<'a, R, W> {
    pub(super) identity: &'a Identity,
    frames: FrameReader<R>,
    write: W,
    closer: ShutdownHandle,
    /// Every byte of prefaces and hellos, the dialer's first.
    pub(super) transcript: BytesMut,
}

/// Reads the other end's preface.
pub(super) async fn read_preface<R: ByteSource>(read: &mut R) -> Result<(), HandshakeError> {
    let mut preface = [0; PREFACE.len()];
    read_whole(read, &mut preface).await?;
    if preface[..PREFACE_VERSION_AT] != PREFACE[..PREFACE_VERSION_AT] {
        return Err(HandshakeError::Foreign);
    }
    // What a later version puts behind its number is its own business.
    match preface[PREFACE_VERSION_AT] {
        version if version != PREFACE[PREFACE_VERSION_AT] => Err(HandshakeError::Version(version)),
        _ if preface == PREFACE => Ok(()),
        _ => Err(HandshakeError::Foreign),
    }
}

/// Writes what comes first of all, and returns the bytes of the frame behind its length.
pub(super) async fn send<W: ByteSink>(
    write: &mut W,
    first: &[u8],
    body: &Body,
) -> Result<Bytes, HandshakeError> {
    let mut chunks = vec![Bytes::copy_from_slice(first)];
    Encoder::new().encode(body, &mut chunks)?;
    write.write_all(&chunks).await?;
    Ok(chunks.pop().unwrap_or_default().split_off(LENGTH_BYTES))
}

/// What this core says of itself to another.
pub(super) fn hello(identity: &Identity, purpose: Purpose, to: Peer) -> Result<Body, HandshakeError> {
    let (cluster, from) = (identity.cluster.clone(), identity.me);
    let life = if purpose == Purpose::Streams { identity.life } else { Life(0) };
    let process = identity.process;
    Ok(Body::Hello(Hello { cluster, from, life, process, to, challenge: random()?, purpose }))
}

impl<'a, R: ByteSource, W: ByteSink> Greeting<'a, R, W> {
    /// A connection whose other end has sent its preface.
    pub(super) fn new(identity: &'a Identity, link: Link<R, W>) -> Self {
        let frames = FrameReader::with_protocol(link.read, OPTIONS, Protocol::Native);
        Greeting { identity, frames, write: link.write, closer: link.closer, transcript: BytesMut::new() }
    }

    pub(super) async fn send(&mut self, first: &[u8], body: &Body) -> Result<Bytes, HandshakeError> {
        send(&mut self.write, first, body).await
    }

    /// What one end has said, as both know it.
    pub(super) fn note(&mut self, frame: &[u8]) {
        self.transcript.extend_from_slice(&PREFACE);
        self.transcript.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        self.transcript.extend_from_slice(frame);
    }

    /// The next frame, with its bytes.
    pub(super) async fn read(&mut self) -> Result<(Body, Bytes), HandshakeError> {
        let frame = self.frames.next().await?.ok_or(HandshakeError::Ended)?.freeze();
        match decode(frame.clone())? {
            Body::Refused(refusal) => Err(HandshakeError::Refused(refusal)),
            body => Ok((body, frame)),
        }
    }

    /// The other end's hello, if it belongs here and is for one of these purposes.
    pub(super) async fn read_hello(
        &mut self,
        purposes: &[Purpose],
    ) -> Result<(Hello, Bytes), HandshakeError> {
        let (body, frame) = self.read().await?;
        let Body::Hello(hello) = body else { return Err(HandshakeError::Unexpected("a hello")) };
        let is_same = hello.cluster == self.identity.cluster;
        let joins = hello.purpose == Purpose::Join;
        let is_told = joins && (hello.cluster.is_empty() || self.identity.cluster.is_empty());
        let refusal = if !is_same && !is_told {
            let ours = self.identity.cluster.clone();
            return Err(HandshakeError::OtherCluster { theirs: hello.cluster, ours });
        } else if hello.from.node == self.identity.me.node {
            Refusal::OwnNode
        } else if hello.to != self.identity.me && !joins {
            Refusal::NotMe
        } else if !purposes.contains(&hello.purpose) {
            Refusal::Purpose
        } else {
            return Ok((hello, frame));
        };
        Err(HandshakeError::Refusing(refusal))
    }

    /// Tells the other end why there is no connection, and lets it hang up: what is unread here would make the kernel take
    /// back what was told.
    pub(super) async fn refuse(mut self, first: &[u8], refusal: Refusal) {
        if self.send(first, &Body::Refused(refusal)).await.is_ok() {
            drain(&mut self.frames.into_parts().0).await;
        }
    }

    /// The end of the talk: both ends know each other, or there is no connection and the other end hears why from whoever refuses.
    pub(super) async fn end(
        self,
        talked: Result<Hello, HandshakeError>,
    ) -> Result<Greeted<R, W>, HandshakeError> {
        let theirs = match talked {
            Ok(theirs) => theirs,
            Err(error) => {
                if let Some(refusal) = error.refusal() {
                    self.refuse(&[], refusal).await;
                }
                return Err(error);
            }
        };
        let Hello { from: peer, process, cluster, purpose, .. } = theirs;
        let (read, unread) = self.frames.into_parts();
        Ok(Greeted { peer, process, cluster, purpose, read, unread, write: self.write, closer: self.closer })
    }
}

/// Reads a little more, until the other end hangs up.
pub(super) async fn drain<R: ByteSource>(read: &mut R) {
    let mut room = [0; 512];
    for _ in 0..8 {
        if !read.read(&mut room).await.is_ok_and(|count| count > 0) {
            return;
        }
    }
}
