//! A node of the tests: a door, calls, and a handler that does as it is told.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;
use heddle_net::socket::{Listener, Share, pause, spawn};
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication::message::Life;
use heddle_replication_driver::Peer;
use heddle_replication_transport::calls::{CallError, CallFrom, Handler, Options};
use heddle_replication_transport::handshake::{Identity, Secret};
use heddle_replication_transport::{Backoff, Calls, Door};

/// Far longer than any of these takes.
pub const NEVER: Duration = Duration::from_secs(30);

pub fn run<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let executor = glommio::LocalExecutorBuilder::default().spawn(move || async move { test().await });
    executor.expect("an executor starts").join().expect("the test does not panic")
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < NEVER, "never: {what}");
        pause(Duration::from_millis(2)).await;
    }
}

pub fn peer(node: u32) -> Peer {
    Peer { node: NodeId::new(node), core: CoreId::new(0) }
}

pub fn identity(node: u32) -> Identity {
    Identity { cluster: "loom".into(), me: peer(node), life: Life(0), process: [node as u8; 16] }
}

pub fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).unwrap()
}

pub fn options() -> Options {
    Options {
        backoff: Backoff { first: Duration::from_millis(20), most: Duration::from_millis(40) },
        ping_every: Duration::from_millis(50),
        silence_max: Duration::from_millis(400),
        ..Options::default()
    }
}

pub fn listener(address: &str) -> Listener {
    Listener::bind(address.parse().unwrap(), Share::Exclusive).unwrap()
}

/// A node with a door that is open.
pub struct Node {
    pub door: Door,
    pub calls: Calls,
    pub address: String,
    /// Who has asked.
    pub asked: Rc<RefCell<Vec<CallFrom>>>,
}

impl Node {
    pub fn new(identity: Identity, secret: Secret, options: Options, address: &str) -> Node {
        let door = Door::new(identity, secret, heddle_replication_transport::Options::default());
        let calls = Calls::new(&door, options);
        let listener = listener(address);
        let address = listener.local_addr().to_string();
        let serving = door.clone();
        spawn(async move { serving.serve(listener).await });
        Node { door, calls, address, asked: Rc::default() }
    }

    /// One that answers.
    pub fn up(node: u32) -> Node {
        let up = Node::new(identity(node), secret(1), options(), "127.0.0.1:0");
        up.answer();
        up
    }

    pub fn answer(&self) {
        self.calls.answer(handler(&self.asked));
    }

    pub async fn ask(&self, node: u32, address: &str, request: &[u8]) -> Result<Vec<u8>, CallError> {
        self.calls.call(NodeId::new(node), address, request.to_vec()).await
    }

    pub fn stop(&self) {
        self.calls.stop();
        self.door.stop();
    }
}

/// The first byte says what is done: `w`ait as many milliseconds as the second says, `n`ever answer, `b`ad, else at once. The
/// reply is the request turned round.
fn handler(asked: &Rc<RefCell<Vec<CallFrom>>>) -> Handler {
    let asked = asked.clone();
    Rc::new(move |from, request| {
        asked.borrow_mut().push(from);
        Box::pin(async move {
            match request.first() {
                Some(b'w') => pause(Duration::from_millis(u64::from(request[1]))).await,
                Some(b'n') => future::pending().await,
                Some(b'b') => return None,
                _ => {}
            }
            Some(request.into_iter().rev().collect())
        })
    })
}

#[track_caller]
pub fn unreachable(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::Unreachable(why)) => why,
        other => panic!("it is not unreachable: {other:?}"),
    }
}

#[track_caller]
pub fn lost(outcome: Result<Vec<u8>, CallError>) -> String {
    match outcome {
        Err(CallError::Lost(why)) => why,
        other => panic!("it is not lost: {other:?}"),
    }
}
