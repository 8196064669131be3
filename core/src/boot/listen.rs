//! The ports: bound before anything else is touched, served when everything is there.

use std::{net::Shutdown, rc::Rc, sync::Arc};

use heddle_log_store::Disk;
use heddle_net::{
    frame::{FrameError, FrameOptions, FrameReader, Protocol},
    outbox::{OutboxOptions, outbox_within},
    socket::{AcceptError, BindError, ListenSocket, Listener, Share, Stream, WriteHalf},
};

use crate::{
    config::{Config, PortMode},
    fatal::Fatal,
    kafka, native,
    runtime::{Queue, time::sleep},
    shard::{Admission, Shard, handoff::Handoff, request::CoreRequest},
};

/// The bound sockets of the process.
pub struct Sockets {
    data: Vec<Option<ListenSocket>>,
    admin: Option<ListenSocket>,
    peers: Vec<Option<ListenSocket>>,
}

/// What one core listens on.
pub struct CoreSockets {
    /// Kafka and native clients.
    pub data: ListenSocket,
    /// Operators; core 0 only.
    pub admin: Option<ListenSocket>,
    /// Other nodes.
    pub peers: Option<ListenSocket>,
}

impl Sockets {
    /// The sockets of one core, once.
    pub fn take(&mut self, core: usize) -> CoreSockets {
        CoreSockets {
            data: self.data[core].take().expect("each core takes its sockets once"),
            admin: if core == 0 { self.admin.take() } else { None },
            peers: self.peers.get_mut(core).and_then(Option::take),
        }
    }
}

/// Binds every address of the configuration.
///
/// # Errors
/// When one is taken or cannot be listened on.
pub fn bind(config: &Config) -> Result<Sockets, Fatal> {
    let share = match config.port_mode {
        PortMode::PerCore => Share::Exclusive,
        PortMode::Single => Share::ReusePort,
    };
    let data = (0..config.core_count()).map(|core| {
        let address = config.listen_of_core(core);
        ListenSocket::bind(address, share).map(Some).map_err(|error| refusal(&error))
    });
    let data = data.collect::<Result<Vec<_>, _>>()?;
    let admin = config.admin.map(|address| ListenSocket::bind(address, Share::Exclusive)).transpose();
    let mut peers = Vec::new();
    if let Some(config_of_peers) = &config.peers {
        for core in 0..config.core_count() {
            let mut address = config_of_peers.listen;
            address.set_port(address.port().saturating_add(core as u16));
            peers.push(Some(ListenSocket::bind(address, Share::Exclusive).map_err(|error| refusal(&error))?));
        }
    }
    Ok(Sockets { data, admin: admin.map_err(|error| refusal(&error))?, peers })
}

fn refusal(error: &BindError) -> Fatal {
    let address = error.address().to_string();
    match error {
        BindError::InUse { .. } => Fatal::PortInUse { address, detail: String::new() },
        other => Fatal::Listen { address, detail: other.to_string() },
    }
}

/// Turns a bound socket into a listener of this core.
///
/// # Errors
/// When no descriptor is free.
pub fn attach(socket: ListenSocket) -> Result<Listener, Fatal> {
    Listener::attach(socket).map_err(|error| refusal(&error))
}

/// Accepts connections until the listener is shut down.
pub async fn accept<D: Disk>(shard: Rc<Shard<D>>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(stream) => shard.queues.spawn(Queue::Hot, connection(shard.clone(), stream)),
            Err(AcceptError::Closed) => return,
            Err(AcceptError::Lost(error)) => tracing::debug!(%error, "a connection was lost before it began"),
            Err(AcceptError::Exhausted(error)) => {
                tracing::warn!(%error, "no connection can be accepted for now");
                sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Takes over a connection that another core read the beginning of.
pub fn adopt<D: Disk>(shard: &Rc<Shard<D>>, handoff: Handoff) {
    let Handoff { socket, unread, first } = handoff;
    let Ok(stream) = Stream::from_raw(socket) else { return };
    let Some(admission) = shard.admit_connection(stream.shutdown_handle()) else { return };
    let (read, write) = stream.into_split();
    let frames = FrameReader::resume(read, frame_options(&shard.config), unread);
    let door = Door::Native { first: Some(first) };
    shard.queues.spawn(Queue::Hot, serve(shard.clone(), frames, write, door, admission));
}

enum Door {
    Kafka,
    Native { first: Option<bytes::BytesMut> },
}

async fn connection<D: Disk>(shard: Rc<Shard<D>>, stream: Stream) {
    let Some(admission) = shard.admit_connection(stream.shutdown_handle()) else { return };
    let (read, write) = stream.into_split();
    let mut frames = FrameReader::new(read, frame_options(&shard.config));
    match frames.sniff().await {
        Ok(None) => {}
        Ok(Some(Protocol::Kafka)) => serve(shard, frames, write, Door::Kafka, admission).await,
        Ok(Some(Protocol::Native)) => {
            let alone = shard.mesh.core_count() == 1 || shard.config.port_mode == PortMode::PerCore;
            if alone {
                serve(shard, frames, write, Door::Native { first: None }, admission).await;
            } else {
                place(shard, frames, write, admission).await;
            }
        }
        Err(error) => malformed(&shard, &error),
    }
}

/// Finds out which core a native connection of a single-port node belongs to, and sends it there.
async fn place<D: Disk>(
    shard: Rc<Shard<D>>,
    mut frames: FrameReader,
    mut write: WriteHalf,
    admission: Admission<D>,
) {
    match native::greeting::greet(&shard, &mut frames, &mut write).await {
        Ok(native::greeting::Greeted::Gone) => {}
        Ok(native::greeting::Greeted::Stay(first)) => {
            serve(shard, frames, write, Door::Native { first: Some(first) }, admission).await;
        }
        Ok(native::greeting::Greeted::Move(core, first)) => {
            let (read, unread) = frames.into_parts();
            let stream = Stream::reunite(read, write).expect("both halves are of this connection");
            let Ok(socket) = stream.into_raw() else { return };
            shard.metrics.connections_moved.add(1);
            // A core that has stopped drops the socket, which closes the connection.
            let _ = shard.mesh.ask(core, CoreRequest::Adopt(Handoff { socket, unread, first })).await;
        }
        Err(error) => ended(&shard, &error),
    }
}

async fn serve<D: Disk>(
    shard: Rc<Shard<D>>,
    mut frames: FrameReader,
    write: WriteHalf,
    door: Door,
    admission: Admission<D>,
) {
    let peer = kafka::connection::Peer::new(write.peer_addr());
    let (outbox, writer) = outbox_within(OutboxOptions::default(), shard.unsent.clone());
    let metrics = shard.metrics.clone();
    shard.queues.spawn(Queue::Hot, async move {
        // A failure reaches the reader, which says why the connection ended.
        let _ = writer.run(write, metrics).await;
        drop(admission);
    });
    match door {
        Door::Kafka => {
            if let Err(error) = kafka::connection::serve(&shard, &mut frames, &outbox, &peer).await {
                ended(&shard, &error);
            }
        }
        Door::Native { first } => {
            if let Err(error) = native::connection::serve(&shard, &mut frames, &outbox, first).await {
                ended(&shard, &error);
            }
        }
    }
    outbox.close();
}

fn ended<D: Disk>(shard: &Rc<Shard<D>>, error: &dyn std::error::Error) {
    shard.metrics.connections_failed.add(1);
    tracing::debug!(%error, "a connection was ended");
}

fn malformed<D: Disk>(shard: &Rc<Shard<D>>, error: &FrameError) {
    shard.metrics.frames_malformed.add(1);
    tracing::debug!(%error, "a connection was refused");
}

fn frame_options(config: &Arc<Config>) -> FrameOptions {
    FrameOptions::new(config.frame_bytes_max)
}

/// Ends every connection of a core: readers see the end of their stream, writers still send what they owe.
pub fn close_connections<D: Disk>(shard: &Rc<Shard<D>>) {
    for handle in shard.connections() {
        handle.shutdown(Shutdown::Read);
    }
}
