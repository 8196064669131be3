//! Sockets on loopback: ports, halves, back-pressure, shutdown and hand-over.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::process::Command;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::LocalExecutorBuilder;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Tells [`other_process_tries`], when run by another process, which address to try.
const TRY_ADDRESS: &str = "HEDDLE_NET_TEST_TRY_ADDRESS";

fn run<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let executor = LocalExecutorBuilder::default().spawn(move || async move { test().await });
    executor.expect("an executor starts").join().expect("the test does not panic")
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An address no other test uses, so that a port given back is not taken by one of them.
fn lonely(host: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))
}

async fn pair() -> (Stream, Stream) {
    let listener = Listener::bind(loopback(0), Share::Exclusive).unwrap();
    let target = listener.local_addr().to_string();
    let (client, server) = future::zip(Stream::connect(&target, PATIENCE), listener.accept()).await;
    (client.unwrap(), server.unwrap())
}

async fn read_to_end(read: &mut ReadHalf) -> BytesMut {
    let mut all = BytesMut::new();
    while read.read_some(&mut all, 1 << 16).await.unwrap() > 0 {}
    all
}

#[test]
fn bytes_come_back_by_every_way_of_reading() {
    run(async || {
        let (client, server) = pair().await;
        assert!(server.peer_addr().is_some());
        let (mut client_read, mut client_write) = client.into_split();
        let (mut read, mut write) = server.into_split();
        let chunks = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two")];
        client_write.write_all_vectored(&chunks).await.unwrap();
        client_write.finish();
        let mut buffer = [0; 2];
        assert_eq!(read.read(&mut buffer).await.unwrap(), 2);
        let mut rest = BytesMut::with_capacity(64);
        assert_eq!(read.read_limited(&mut rest, 3).await.unwrap(), 3);
        assert_eq!(read.read_some(&mut rest, 10).await.unwrap(), 1);
        assert_eq!((&buffer[..], &rest[..]), (&b"on"[..], &b"etwo"[..]));
        assert_eq!(read.read_some(&mut rest, 10).await.unwrap(), 0);
        write.write_all_vectored(&[rest.freeze()]).await.unwrap();
        drop((read, write));
        assert_eq!(read_to_end(&mut client_read).await[..], b"etwo"[..]);
    });
}

#[test]
fn a_read_waits_without_a_buffer() {
    run(async || {
        let (client, server) = pair().await;
        let (mut read, _write) = server.into_split();
        let (_client_read, mut client_write) = client.into_split();
        let mut buffer = BytesMut::new();
        let late = async {
            pause(Duration::from_millis(20)).await;
            client_write.write_all_vectored(&[Bytes::from_static(b"late")]).await.unwrap();
        };
        let (count, ()) = future::zip(read.read_some(&mut buffer, 16), late).await;
        assert_eq!((count.unwrap(), &buffer[..]), (4, &b"late"[..]));
    });
}

#[test]
fn a_vectored_send_survives_a_slow_reader() {
    run(async || {
        let (client, server) = pair().await;
        let (mut read, _write) = server.into_split();
        let (_client_read, mut client_write) = client.into_split();
        let chunks: Vec<Bytes> =
            (0..500u32).map(|i| Bytes::from(vec![i as u8; 1 + i as usize * 97])).collect();
        let whole = chunks.concat();
        let send = async {
            client_write.write_all_vectored(&chunks).await.unwrap();
            client_write.finish();
        };
        let receive = async {
            pause(Duration::from_millis(20)).await;
            read_to_end(&mut read).await
        };
        let ((), received) = future::zip(send, receive).await;
        assert!(received[..] == whole[..], "{} of {} bytes", received.len(), whole.len());
    });
}

#[test]
fn shutting_down_wakes_a_blocked_reader() {
    run(async || {
        let (client, server) = pair().await;
        let (mut read, _write) = server.into_split();
        let handle = read.shutdown_handle();
        let mut buffer = BytesMut::new();
        let stop = async {
            pause(Duration::from_millis(20)).await;
            handle.shutdown(std::net::Shutdown::Both);
        };
        let (count, ()) = future::zip(read.read_some(&mut buffer, 16), stop).await;
        assert_eq!(count.unwrap(), 0);
        drop(client);
    });
}

#[test]
fn sending_to_a_closed_connection_is_an_error() {
    run(async || {
        let (client, server) = pair().await;
        drop(server);
        let (_read, mut write) = client.into_split();
        let chunk = Bytes::from(vec![0; 1 << 16]);
        let mut result = Ok(());
        for _ in 0..100 {
            result = write.write_all_vectored(std::slice::from_ref(&chunk)).await;
            if result.is_err() {
                break;
            }
            pause(Duration::from_millis(1)).await;
        }
        assert!(result.is_err());
    });
}

#[test]
fn a_connection_moves_to_another_core() {
    let (raw_sender, raw_receiver) = std::sync::mpsc::channel::<RawStream>();
    let listener = ListenSocket::bind(loopback(0), Share::Exclusive).unwrap();
    let address = listener.local_addr();
    let first = std::thread::spawn(move || {
        run(async move || {
            let listener = Listener::attach(listener).unwrap();
            let mut stream = listener.accept().await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            let (read, write) = stream.into_split();
            let stream = Stream::reunite(read, write).unwrap();
            raw_sender.send(stream.into_raw().unwrap()).unwrap();
        });
    });
    let mut client = StdStream::connect(address).unwrap();
    client.write_all(b"ab").unwrap();
    first.join().unwrap();
    let raw = raw_receiver.recv().unwrap();
    run(async move || {
        let mut stream = Stream::from_raw(raw).unwrap();
        let mut second = [0; 1];
        stream.read_exact(&mut second).await.unwrap();
        assert_eq!(&second, b"b");
        stream.write_all(b"done").await.unwrap();
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "done");
}

#[test]
fn accepting_ends_when_the_listener_is_shut_down() {
    run(async || {
        let listener = Listener::bind(loopback(0), Share::Exclusive).unwrap();
        let handle = listener.shutdown_handle();
        let stop = async {
            pause(Duration::from_millis(20)).await;
            handle.shutdown();
        };
        let (accepted, ()) = future::zip(listener.accept(), stop).await;
        assert!(matches!(accepted, Err(AcceptError::Closed)));
        assert!(matches!(listener.accept().await, Err(AcceptError::Closed)));
    });
}

#[test]
fn an_idle_connection_is_closed_without_dropping_its_read() {
    run(async || {
        let (client, server) = pair().await;
        let handle = server.shutdown_handle();
        let (mut read, _write) = server.into_split();
        let mut buffer = BytesMut::new();
        let reading = read.read_some(&mut buffer, 16);
        let idle_max = Duration::from_millis(20);
        let count = close_when_idle(Activity::default(), idle_max, handle, reading).await;
        assert_eq!(count.unwrap(), 0);
        drop(client);
    });
}

#[test]
fn connecting_tells_what_went_wrong() {
    run(async || {
        let free = ListenSocket::bind(lonely(2), Share::Exclusive).unwrap().local_addr();
        let refused = Stream::connect(&free.to_string(), PATIENCE).await.err().unwrap();
        assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
        let nonsense = Stream::connect("no port", PATIENCE).await.err().unwrap();
        assert!(matches!(nonsense, ConnectError::Resolve { .. }), "{nonsense}");
        let listener = Listener::bind(loopback(0), Share::Exclusive).unwrap();
        let target = format!("localhost:{}", listener.local_addr().port());
        let (client, server) = future::zip(Stream::connect(&target, PATIENCE), listener.accept()).await;
        assert!(client.is_ok() && server.is_ok());
    });
}

#[test]
fn cores_of_one_process_share_a_port() {
    let first = ListenSocket::bind(loopback(0), Share::ReusePort).unwrap();
    let second = ListenSocket::bind(first.local_addr(), Share::ReusePort).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    let exclusive = ListenSocket::bind(first.local_addr(), Share::Exclusive).unwrap_err();
    assert!(matches!(exclusive, BindError::InUse { .. }));
}

#[test]
fn an_exclusive_port_is_not_shared() {
    let first = ListenSocket::bind(loopback(0), Share::Exclusive).unwrap();
    for share in [Share::Exclusive, Share::ReusePort] {
        let error = ListenSocket::bind(first.local_addr(), share).unwrap_err();
        assert!(matches!(error, BindError::InUse { address } if address == first.local_addr()));
        assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    }
}

#[test]
fn a_wildcard_listener_is_met() {
    let wildcard = StdListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = wildcard.local_addr().unwrap().port();
    let error = ListenSocket::bind(loopback(port), Share::ReusePort).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
}

#[test]
fn a_listener_that_would_share_is_met() {
    let domain = socket2::Domain::IPV4;
    for address in [loopback(0), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))] {
        let other = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        other.set_reuse_address(true).unwrap();
        other.set_reuse_port(true).unwrap();
        other.bind(&address.into()).unwrap();
        other.listen(1).unwrap();
        let port = other.local_addr().unwrap().as_socket().unwrap().port();
        let error = ListenSocket::bind(loopback(port), Share::ReusePort).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }));
    }
}

#[test]
fn a_port_is_free_again_after_its_connections_closed() {
    let listener = ListenSocket::bind(lonely(3), Share::ReusePort).unwrap();
    let address = listener.local_addr();
    let client = StdStream::connect(address).unwrap();
    let (served, _) = listener.socket.accept().unwrap();
    drop(served); // the closing side keeps the port in TIME_WAIT
    drop((client, listener));
    for share in [Share::ReusePort, Share::Exclusive] {
        ListenSocket::bind(address, share).unwrap();
    }
}

#[test]
fn another_process_is_refused() {
    let guarded = ListenSocket::bind(lonely(4), Share::ReusePort).unwrap();
    let status = run_other_process(guarded.local_addr());
    assert!(status.contains("refused: in use"), "{status}");
    let address = guarded.local_addr();
    drop(guarded);
    let status = run_other_process(address);
    assert!(status.contains("bound"), "{status}");
}

#[test]
fn the_guard_alone_refuses_another_process() {
    let free = ListenSocket::bind(lonely(5), Share::Exclusive).unwrap().local_addr();
    let guard = PortGuard::take(free).unwrap();
    let status = run_other_process(free);
    assert!(status.contains("refused: in use"), "{status}");
    drop(guard);
}

fn run_other_process(address: SocketAddr) -> String {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", "socket::tests::other_process_tries", "--nocapture"])
        .env(TRY_ADDRESS, address.to_string())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Does nothing unless run by [`run_other_process`].
#[test]
fn other_process_tries() {
    let Ok(address) = std::env::var(TRY_ADDRESS) else { return };
    match ListenSocket::bind(address.parse().unwrap(), Share::ReusePort) {
        Ok(_) => println!("bound"),
        Err(BindError::InUse { .. }) => println!("refused: in use"),
        Err(error) => println!("refused: {error}"),
    }
}
