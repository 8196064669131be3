//! Every way in which two cores do not come to talk, over real sockets; and the one in which they do.
#![allow(clippy::unwrap_used)] // a test throughout

use std::cell::RefCell;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use heddle_net::frame::{FrameOptions, FrameReader, Protocol};
use heddle_net::socket::{Activity, Listener, ReadHalf, Share, Stream, WriteHalf, close_when_idle};
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication::message::Life;
use heddle_replication_driver::Peer;
use heddle_replication_transport::Link;
use heddle_replication_transport::handshake::{
    Aim, Greeted, HandshakeError, Identity, Roster, Secret, accept, dial,
};
use heddle_replication_transport::wire::{
    Body, Encoder, FORMAT_VERSION, Hello, PREFACE, Purpose, Refusal, decode,
};

type Outcome = Result<Greeted<ReadHalf, WriteHalf>, HandshakeError>;

/// Far longer than any of these takes. Then both ends are closed.
const LONG: Duration = Duration::from_secs(10);

fn run<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let executor = glommio::LocalExecutorBuilder::default().spawn(move || async move { test().await });
    executor.expect("an executor starts").join().expect("the test does not panic")
}

fn peer(node: u32) -> Peer {
    Peer { node: NodeId::new(node), core: CoreId::new(3) }
}

fn identity(node: u32) -> Identity {
    Identity { cluster: "loom".into(), me: peer(node), life: Life(7), process: [node as u8; 16] }
}

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).expect("it is long enough")
}

async fn connected() -> (Stream, Stream) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Share::Exclusive).unwrap();
    let target = listener.local_addr().to_string();
    let (ours, theirs) = future::zip(Stream::connect(&target, LONG), listener.accept()).await;
    (ours.unwrap(), theirs.unwrap())
}

/// One end of a handshake: who it is, what it knows, whom it has met.
struct Core {
    identity: Identity,
    secret: Secret,
    roster: RefCell<Roster>,
}

impl Core {
    fn new(node: u32) -> Core {
        Core { identity: identity(node), secret: secret(1), roster: RefCell::default() }
    }

    async fn dial(&self, stream: Stream, to: Peer) -> Outcome {
        let link = Link::from(stream);
        let closer = link.closer.clone();
        let greeting = dial(link, &self.identity, &self.secret, &self.roster, Aim::Streams(to));
        close_when_idle(Activity::default(), LONG, closer, greeting).await
    }

    /// Hangs up at once if it gets through.
    async fn try_dial(&self, stream: Stream, to: Peer) -> Result<(), HandshakeError> {
        self.dial(stream, to).await.map(drop)
    }

    async fn accept(&self, stream: Stream) -> Outcome {
        let link = Link::from(stream);
        let closer = link.closer.clone();
        let greeting = accept(link, &self.identity, &self.secret, &self.roster, &Purpose::ALL);
        close_when_idle(Activity::default(), LONG, closer, greeting).await
    }
}

/// What both ends make of each other: the dialer's first.
async fn meet(dialer: &Core, acceptor: &Core, to: Peer) -> (Outcome, Outcome) {
    let (ours, theirs) = connected().await;
    future::zip(dialer.dial(ours, to), acceptor.accept(theirs)).await
}

#[track_caller]
fn refused<T>(outcome: &Result<T, HandshakeError>) -> Refusal {
    match outcome {
        Err(HandshakeError::Refused(refusal)) => *refusal,
        Err(other) => panic!("it was not told: {other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[track_caller]
fn refusing<T>(outcome: &Result<T, HandshakeError>) -> Refusal {
    match outcome {
        Err(error) => error.refusal().unwrap_or_else(|| panic!("it did not refuse: {error}")),
        Ok(_) => panic!("it let the other in"),
    }
}

#[test]
fn cores_of_one_cluster_meet_and_nothing_read_too_early_is_lost() {
    run(async || {
        let (dialer, acceptor) = (Core::new(1), Core::new(2));
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        let (mut ours, theirs) = (ours.ok().unwrap(), theirs.ok().unwrap());
        assert_eq!((ours.peer, theirs.peer), (peer(2), peer(1)));
        let mut chunks = Vec::new();
        Encoder::new().encode(&Body::Ping(5), &mut chunks).unwrap();
        ours.write.write_all_vectored(&chunks).await.unwrap();
        let mut frames = FrameReader::resume(theirs.read, FrameOptions::new(1 << 20), theirs.unread);
        let frame = frames.next().await.unwrap().unwrap();
        assert_eq!(decode(frame.freeze()), Ok(Body::Ping(5)));
    });
}

#[test]
fn another_cluster_is_refused_and_told() {
    run(async || {
        let (mut dialer, acceptor) = (Core::new(1), Core::new(2));
        dialer.identity.cluster = "warp".into();
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        assert_eq!((refused(&ours), refusing(&theirs)), (Refusal::Cluster, Refusal::Cluster));
        let why = theirs.err().unwrap().to_string();
        assert!(why.contains("\"warp\"") && why.contains("\"loom\""), "{why}");
    });
}

#[test]
fn ones_own_node_id_is_refused_and_told() {
    run(async || {
        let (ours, theirs) = meet(&Core::new(2), &Core::new(2), peer(2)).await;
        assert_eq!((refused(&ours), refusing(&theirs)), (Refusal::OwnNode, Refusal::OwnNode));
    });
}

#[test]
fn who_wants_another_core_or_node_is_refused_and_told() {
    run(async || {
        let other_core = Peer { core: CoreId::new(0), ..peer(2) };
        for to in [peer(3), other_core] {
            let (ours, theirs) = meet(&Core::new(1), &Core::new(2), to).await;
            assert_eq!((refused(&ours), refusing(&theirs)), (Refusal::NotMe, Refusal::NotMe));
        }
    });
}

#[test]
fn a_node_id_in_use_is_refused_and_told() {
    run(async || {
        let acceptor = Core::new(2);
        let mut dialer = Core::new(1);
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        assert!(ours.is_ok() && theirs.is_ok());
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        assert!(ours.is_ok() && theirs.is_ok(), "the same process connects again");
        dialer.identity.process = [99; 16];
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        assert_eq!((refused(&ours), refusing(&theirs)), (Refusal::NodeInUse, Refusal::NodeInUse));
        dialer.identity.life = Life(6);
        let (ours, _) = meet(&dialer, &acceptor, peer(2)).await;
        assert_eq!(refused(&ours), Refusal::NodeInUse, "a life that is over");
        dialer.identity.life = Life(8);
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        assert!(ours.is_ok() && theirs.is_ok(), "it has restarted");
        let (ours, _) = meet(&Core::new(1), &acceptor, peer(2)).await;
        assert_eq!(refused(&ours), Refusal::NodeInUse, "the life before");
    });
}

#[test]
fn a_dialer_refuses_an_acceptor_whose_node_id_is_in_use() {
    run(async || {
        let dialer = Core::new(1);
        let mut acceptor = Core::new(2);
        let (ours, _) = meet(&dialer, &acceptor, peer(2)).await;
        assert!(ours.is_ok());
        acceptor.identity.process = [99; 16];
        let (ours, theirs) = connected().await;
        // The acceptor believed it; what it reads first is why the connection ends.
        let accepting = async {
            let greeted = acceptor.accept(theirs).await.ok().unwrap();
            let mut frames = FrameReader::resume(greeted.read, FrameOptions::new(1 << 20), greeted.unread);
            frames.next().await.unwrap().unwrap()
        };
        let (ours, told) = future::zip(dialer.try_dial(ours, peer(2)), accepting).await;
        assert_eq!(refusing(&ours), Refusal::NodeInUse);
        assert_eq!(decode(told.freeze()), Ok(Body::Refused(Refusal::NodeInUse)));
    });
}

#[test]
fn a_wrong_secret_is_refused_and_told_and_does_not_take_a_node_id() {
    run(async || {
        let acceptor = Core::new(2);
        let mut dialer = Core::new(1);
        dialer.secret = secret(2);
        dialer.identity.life = Life(1000);
        let (ours, theirs) = meet(&dialer, &acceptor, peer(2)).await;
        assert_eq!((refused(&ours), refusing(&theirs)), (Refusal::Secret, Refusal::Secret));
        let (ours, _) = meet(&Core::new(1), &acceptor, peer(2)).await;
        assert!(ours.is_ok(), "who knows the secret still has that id");
    });
}

/// A hand-made end that sends what it likes.
struct Impostor {
    frames: FrameReader,
    write: WriteHalf,
}

impl Impostor {
    async fn new(stream: Stream, reads_preface: bool) -> Impostor {
        let (mut read, write) = stream.into_split();
        if reads_preface {
            let mut preface = [0; PREFACE.len()];
            let count = read.read(&mut preface).await.unwrap();
            assert_eq!(preface[..count], PREFACE[..]);
        }
        Impostor {
            frames: FrameReader::with_protocol(read, FrameOptions::new(1 << 20), Protocol::Native),
            write,
        }
    }

    async fn send(&mut self, first: &[u8], body: &Body) {
        let mut chunks = vec![Bytes::copy_from_slice(first)];
        Encoder::new().encode(body, &mut chunks).unwrap();
        self.write.write_all_vectored(&chunks).await.unwrap();
    }

    async fn read(&mut self) -> Option<(Body, BytesMut)> {
        let frame = self.frames.next().await.ok()??;
        Some((decode(frame.clone().freeze()).unwrap(), frame))
    }
}

fn hello(from: u32, to: u32) -> Body {
    let Identity { cluster, me, life, process } = identity(from);
    Body::Hello(Hello {
        cluster,
        from: me,
        life,
        process,
        to: peer(to),
        challenge: [9; 32],
        purpose: Purpose::Streams,
    })
}

#[test]
fn an_acceptor_that_does_not_know_the_secret_is_found_out() {
    run(async || {
        let dialer = Core::new(1);
        let (ours, theirs) = connected().await;
        let impostor = async {
            let mut impostor = Impostor::new(theirs, true).await;
            impostor.read().await.unwrap();
            impostor.send(&PREFACE, &hello(2, 1)).await;
            let Some((Body::Proof(proof), _)) = impostor.read().await else { panic!("a proof") };
            // The best it can do: give back what it was shown.
            impostor.send(&[], &Body::Accepted(proof)).await;
            impostor.read().await.unwrap().0
        };
        let (ours, told) = future::zip(dialer.try_dial(ours, peer(2)), impostor).await;
        assert_eq!(refusing(&ours), Refusal::Secret);
        assert_eq!(told, Body::Refused(Refusal::Secret));
    });
}

#[test]
fn an_acceptor_that_is_another_node_is_refused() {
    run(async || {
        let (ours, theirs) = connected().await;
        let impostor = async {
            let mut impostor = Impostor::new(theirs, true).await;
            impostor.read().await.unwrap();
            impostor.send(&PREFACE, &hello(4, 1)).await;
            impostor.read().await.unwrap().0
        };
        let dialer = Core::new(1);
        let (ours, told) = future::zip(dialer.try_dial(ours, peer(2)), impostor).await;
        assert_eq!(refusing(&ours), Refusal::NotMe);
        assert_eq!(told, Body::Refused(Refusal::NotMe));
    });
}

/// What somebody has listened to opens nothing: the challenge is another one.
#[test]
fn a_handshake_that_is_played_again_is_refused() {
    run(async || {
        let (dialer, acceptor) = (Core::new(1), Core::new(2));
        let (ours, mine) = connected().await;
        let (theirs, accepting) = connected().await;
        // In the middle, passing on and writing down.
        let listener = async {
            let mut left = Impostor::new(mine, true).await;
            let (said, _) = left.read().await.unwrap();
            let mut right = Impostor::new(theirs, false).await;
            right.send(&PREFACE, &said).await;
            let mut preface = [0; PREFACE.len()];
            let (mut read, unread) = right.frames.into_parts();
            assert_eq!(read.read(&mut preface).await.unwrap(), PREFACE.len());
            right.frames = FrameReader::resume(read, FrameOptions::new(1 << 20), unread);
            let (answer, _) = right.read().await.unwrap();
            left.send(&PREFACE, &answer).await;
            let (proof, _) = left.read().await.unwrap();
            right.send(&[], &proof).await;
            let (accepted, _) = right.read().await.unwrap();
            left.send(&[], &accepted).await;
            (said, proof)
        };
        let ends = future::zip(dialer.dial(ours, peer(2)), acceptor.accept(accepting));
        let (ends, (said, proof)) = future::zip(ends, listener).await;
        assert!(ends.0.is_ok() && ends.1.is_ok());
        let (again, accepting) = connected().await;
        let replay = async {
            let mut again = Impostor::new(again, false).await;
            again.send(&PREFACE, &said).await;
            again.send(&[], &proof).await;
        };
        let (outcome, ()) = future::zip(acceptor.accept(accepting), replay).await;
        assert_eq!(refusing(&outcome), Refusal::Secret);
    });
}

#[test]
fn another_version_is_told_by_the_preface() {
    run(async || {
        let mut newer = PREFACE;
        newer[4] = FORMAT_VERSION + 1;
        newer[6] = 77;
        let (ours, theirs) = connected().await;
        let acceptor = Core::new(2);
        let impostor = async {
            let (mut read, mut write) = ours.into_split();
            write
                .write_all_vectored(&[Bytes::copy_from_slice(&newer), Bytes::from(vec![1; 300])])
                .await
                .unwrap();
            let mut told = [0; 8];
            assert_eq!(read.read(&mut told).await.unwrap(), 8);
            told
        };
        let (outcome, told) = future::zip(acceptor.accept(theirs), impostor).await;
        assert!(matches!(outcome, Err(HandshakeError::Version(version)) if version == FORMAT_VERSION + 1));
        assert_eq!(told, PREFACE);
        let (ours, theirs) = connected().await;
        let impostor = async {
            let (mut read, mut write) = theirs.into_split();
            write.write_all_vectored(&[Bytes::copy_from_slice(&newer)]).await.unwrap();
            while read.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
        };
        let dialer = Core::new(1);
        let (outcome, ()) = future::zip(dialer.try_dial(ours, peer(2)), impostor).await;
        assert!(matches!(outcome, Err(HandshakeError::Version(version)) if version == FORMAT_VERSION + 1));
    });
}

/// Sends these bytes to an acceptor and returns what it makes of them, and all that it answers.
async fn answered(sent: Vec<u8>) -> (HandshakeError, Vec<u8>) {
    let (ours, theirs) = connected().await;
    let acceptor = Core::new(2);
    let garbage = async {
        let (mut read, mut write) = ours.into_split();
        write.write_all_vectored(&[Bytes::from(sent)]).await.unwrap();
        write.finish();
        let (mut all, mut room) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = read.read(&mut room).await {
            all.extend_from_slice(&room[..count]);
        }
        all
    };
    let accepting = async { acceptor.accept(theirs).await.err().expect("it is not let in") };
    future::zip(accepting, garbage).await
}

#[test]
fn garbage_gets_no_answer() {
    run(async || {
        let framed = |body: &Body| {
            let mut chunks = vec![Bytes::from_static(&PREFACE)];
            Encoder::new().encode(body, &mut chunks).unwrap();
            chunks.concat()
        };
        let native = [0xff, b'H', b'D', b'L', 1, 0, 0, 0];
        for foreign in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &native[..]] {
            let (error, answer) = answered(foreign.to_vec()).await;
            assert!(matches!(error, HandshakeError::Foreign), "{error}");
            assert!(answer.is_empty());
        }
        let (error, answer) = answered([&PREFACE[..], &[0xff; 64]].concat()).await;
        assert!(matches!(error, HandshakeError::Frame(_)), "a length above the limit: {error}");
        assert!(answer.is_empty());
        let mut bent = framed(&hello(1, 2));
        bent[40] ^= 1;
        let (error, answer) = answered(bent).await;
        assert!(matches!(error, HandshakeError::Wire(_)), "{error}");
        assert!(answer.is_empty());
        let (error, answer) = answered(framed(&Body::Ping(1))).await;
        assert!(matches!(error, HandshakeError::Unexpected(_)), "{error}");
        assert!(answer.is_empty());
        let (error, _) = answered(PREFACE[..5].to_vec()).await;
        assert!(matches!(error, HandshakeError::Ended), "{error}");
    });
}
