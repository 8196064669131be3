//! The end of a handshake that the connection was made to.

use std::cell::RefCell;

use bytes::Bytes;
use heddle_net::frame::ByteSource;

use super::greeting::{Greeting, drain, hello, read_preface};
use super::secret::Role;
use super::{Greeted, HandshakeError, Identity, Roster, Secret};
use crate::link::{ByteSink, Link};
use crate::wire::{Body, Hello, PREFACE, Purpose, Refusal};

/// Greets whoever has connected for one of these purposes. Has no timer: its caller ends the link when it takes too long.
///
/// # Errors
/// Every [`HandshakeError`]; the connection is closed then.
pub async fn accept<R: ByteSource, W: ByteSink>(
    mut link: Link<R, W>,
    identity: &Identity,
    secret: &Secret,
    roster: &RefCell<Roster>,
    purposes: &[Purpose],
) -> Result<Greeted<R, W>, HandshakeError> {
    if let Err(error) = read_preface(&mut link.read).await {
        if let HandshakeError::Version(_) = error {
            // Our preface tells it which version is spoken here.
            link.write.write_all(&[Bytes::from_static(&PREFACE)]).await?;
            drain(&mut link.read).await;
        }
        return Err(error);
    }
    let mut greeting = Greeting::new(identity, link);
    let (theirs, frame) = match greeting.read_hello(purposes).await {
        Ok(read) => read,
        Err(error) => {
            if let Some(refusal) = error.refusal() {
                greeting.refuse(&PREFACE, refusal).await;
            }
            return Err(error);
        }
    };
    greeting.note(&frame);
    let talked = talk(&mut greeting, secret, roster, &theirs).await;
    greeting.end(talked.map(|()| theirs)).await
}

async fn talk<R: ByteSource, W: ByteSink>(
    greeting: &mut Greeting<'_, R, W>,
    secret: &Secret,
    roster: &RefCell<Roster>,
    theirs: &Hello,
) -> Result<(), HandshakeError> {
    let mine = greeting.send(&PREFACE, &hello(greeting.identity, theirs.purpose, theirs.from)?).await?;
    greeting.note(&mine);
    let (Body::Proof(proof), _) = greeting.read().await? else {
        return Err(HandshakeError::Unexpected("a proof"));
    };
    if !secret.proves(Role::Dialer, &greeting.transcript, &proof) {
        return Err(HandshakeError::Refusing(Refusal::Secret));
    }
    roster.borrow_mut().admit(theirs).map_err(HandshakeError::Refusing)?;
    let proof = secret.prove(Role::Acceptor, &greeting.transcript);
    greeting.send(&[], &Body::Accepted(proof)).await.map(drop)
}
