//! The secret of a cluster, and the proofs that follow from it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::wire::Digest;

/// Shortest secret, in bytes. Who listens to a handshake can try secrets at home, so it should be drawn at random.
pub const SECRET_BYTES_MIN: usize = 16;

/// What every node of a cluster knows and nobody else.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// The secret is too short.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret of {0} bytes is too short: {SECRET_BYTES_MIN} are the least, 32 random ones are good")]
pub struct SecretError(pub usize);

/// Whose proof it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dialer,
    Acceptor,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A secret of these bytes.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn new(bytes: &[u8]) -> Result<Secret, SecretError> {
        let too_short = SecretError(bytes.len());
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(too_short);
        }
        Hmac::new_from_slice(bytes).map(Secret).map_err(|_| too_short)
    }

    /// What an end that has seen these bytes shows.
    pub(super) fn prove(&self, role: Role, transcript: &[u8]) -> Digest {
        self.mac(role, transcript).finalize().into_bytes().into()
    }

    /// Whether the other end, in this role, knows the secret. Takes as long whatever is wrong.
    pub(super) fn proves(&self, role: Role, transcript: &[u8], proof: &Digest) -> bool {
        self.mac(role, transcript).verify_slice(proof).is_ok()
    }

    fn mac(&self, role: Role, transcript: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(match role {
            Role::Dialer => b"heddle peer 1 dialer\0\0\0\0",
            Role::Acceptor => b"heddle peer 1 acceptor\0\0",
        });
        mac.update(transcript);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_hmac() {
        // RFC 4231, test case 6: a key longer than a block.
        let secret = Secret::new(&[0xaa; 131]).expect("it is long enough");
        let mut mac = secret.0.clone();
        mac.update(b"Test Using Larger Than Block-Size Key - Hash Key First");
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let found: Digest = mac.finalize().into_bytes().into();
        assert_eq!(found.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }

    #[test]
    fn a_proof_is_of_one_end_one_talk_and_one_secret() {
        let (one, other) = (Secret::new(&[1; 32]).expect("long"), Secret::new(&[2; 32]).expect("long"));
        let proof = one.prove(Role::Dialer, b"talk");
        assert!(one.proves(Role::Dialer, b"talk", &proof));
        assert!(!one.proves(Role::Acceptor, b"talk", &proof));
        assert!(!one.proves(Role::Dialer, b"tall", &proof));
        assert!(!other.proves(Role::Dialer, b"talk", &proof));
        assert_eq!(Secret::new(b"short").err(), Some(SecretError(5)));
        assert_eq!(format!("{one:?}"), "Secret");
    }
}
