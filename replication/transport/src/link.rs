//! The byte stream under a connection: TCP here, TLS over it where somebody brings that.

use std::io;

use bytes::Bytes;
use heddle_net::frame::ByteSource;
use heddle_net::socket::{ReadHalf, ShutdownHandle, Stream, WriteHalf};

/// Where frames are written.
pub trait ByteSink {
    /// Writes all chunks in their order.
    fn write_all(&mut self, chunks: &[Bytes]) -> impl Future<Output = io::Result<()>>;
}

impl ByteSink for WriteHalf {
    async fn write_all(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        self.write_all_vectored(chunks).await
    }
}

/// A connected byte stream in two halves, and what ends it.
pub struct Link<R, W> {
    /// Where to read.
    pub read: R,
    /// Where to write.
    pub write: W,
    /// Ends the socket below: who waits in either half wakes with an error or the end of the stream.
    pub closer: ShutdownHandle,
}

impl From<Stream> for Link<ReadHalf, WriteHalf> {
    fn from(stream: Stream) -> Self {
        let closer = stream.shutdown_handle();
        let (read, write) = stream.into_split();
        Link { read, write, closer }
    }
}

impl<R: ByteSource, W: ByteSink> Link<R, W> {
    /// Ends it both ways.
    pub fn close(&self) {
        self.closer.shutdown(std::net::Shutdown::Both);
    }
}
