//! The end of a handshake that made the connection.

use std::cell::RefCell;

use heddle_net::frame::ByteSource;
use heddle_proto::ids::{CoreId, NodeId};
use heddle_replication_driver::Peer;

use super::greeting::{Greeting, hello, read_preface, send};
use super::secret::Role;
use super::{Aim, Greeted, HandshakeError, Identity, Roster, Secret};
use crate::link::{ByteSink, Link};
use crate::wire::{Body, Hello, PREFACE, Refusal};

/// Greets the core at the other end, which has to be the one that is wanted. Has no timer: its caller ends the link when it takes too long.
///
/// # Errors
/// Every [`HandshakeError`]; the connection is closed then.
pub async fn dial<R: ByteSource, W: ByteSink>(
    mut link: Link<R, W>,
    identity: &Identity,
    secret: &Secret,
    roster: &RefCell<Roster>,
    aim: Aim,
) -> Result<Greeted<R, W>, HandshakeError> {
    // Who joins does not know who is there.
    let to = aim.to().unwrap_or(Peer { node: NodeId::new(0), core: CoreId::new(0) });
    let mine = send(&mut link.write, &PREFACE, &hello(identity, aim.purpose(), to)?).await?;
    read_preface(&mut link.read).await?;
    let mut greeting = Greeting::new(identity, link);
    greeting.note(&mine);
    let talked = talk(&mut greeting, secret, roster, aim).await;
    greeting.end(talked).await
}

async fn talk<R: ByteSource, W: ByteSink>(
    greeting: &mut Greeting<'_, R, W>,
    secret: &Secret,
    roster: &RefCell<Roster>,
    aim: Aim,
) -> Result<Hello, HandshakeError> {
    let (hello, frame) = greeting.read_hello(&[aim.purpose()]).await?;
    if aim.to().is_some_and(|to| hello.from != to) {
        return Err(HandshakeError::Refusing(Refusal::NotMe));
    }
    greeting.note(&frame);
    let proof = secret.prove(Role::Dialer, &greeting.transcript);
    greeting.send(&[], &Body::Proof(proof)).await?;
    let (Body::Accepted(proof), _) = greeting.read().await? else {
        return Err(HandshakeError::Unexpected("the answer to a proof"));
    };
    if !secret.proves(Role::Acceptor, &greeting.transcript, &proof) {
        return Err(HandshakeError::Refusing(Refusal::Secret));
    }
    roster.borrow_mut().admit(&hello).map_err(HandshakeError::Refusing)?;
    Ok(hello)
}
