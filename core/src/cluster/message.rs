//! What nodes say to each other beside the metadata's own messages, as bytes: a first byte that tells the two apart, then
//! a version, then fields. Every request has one reply.

use super::{
    note::{Sealed, Wish},
    remote::Ask,
};
use crate::fields::{DecodeError, Field, Reader, enum_fields, struct_fields};

/// First byte of a message of the metadata's agreement.
pub const AGREEMENT: u8 = 0;

/// First byte of a message of this module.
pub const CONTROL: u8 = 1;

/// Nodes of another version are refused.
const VERSION: u8 = 1;

/// What one node asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To whoever leads the metadata: the sender lives, and its replicas have something to say.
    Tell(Tell),
    /// To any node: the sender wants to be let into the cluster.
    Join(Join),
    /// To whoever leads the metadata: the sender is in the cluster, and reached here.
    Moved(Join),
    /// To whoever leads a partition: do something for a client of the sender.
    Ask(Ask),
    /// To whoever leads the metadata: these partitions are to be led by their preferred replicas, or at least by others.
    HandOver(Vec<Wish>),
    /// To whoever leads the metadata: the node of this id is gone for good.
    Remove(u32),
    /// To whoever leads the metadata: which nodes live?
    WhoLives,
}

/// What a node says of itself, every heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// Who.
    pub node: u32,
    /// In which life.
    pub life: u32,
    /// It is about to stop, and whatever it leads is to be led by others.
    pub is_leaving: bool,
    /// Answers to seals.
    pub sealed: Vec<Sealed>,
    /// Partitions that cannot go on with their leader.
    pub wishes: Vec<Wish>,
}

/// What a new node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The id that it is to have.
    pub node: u32,
    /// Where core 0 hears its peers.
    pub address: String,
}

/// A node that is said to lead the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAt {
    /// Its id.
    pub node: u32,
    /// Where core 0 hears its peers.
    pub address: String,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was heard, or done.
    Done,
    /// This node does not lead the metadata; so does, as far as it knows, that one, at that address.
    NotLeader(Option<LeaderAt>),
    /// No, for this reason.
    Refused(String),
    /// To [`Request::Ask`]: an error code of Kafka.
    Asked(i16),
    /// To [`Request::WhoLives`]: who answers, and the nodes that were heard lately.
    Alive(u32, Vec<u32>),
}

enum_fields!(Request {
    0 => Tell(tell),
    1 => Join(join),
    2 => Ask(ask),
    6 => Moved(moved),
    3 => HandOver(wishes),
    4 => Remove(node),
    5 => WhoLives,
});

enum_fields!(Reply {
    0 => Done,
    1 => NotLeader(leader),
    2 => Refused(why),
    3 => Asked(code),
    4 => Alive(leader, nodes),
});

struct_fields!(Tell { node, life, is_leaving, sealed, wishes });
struct_fields!(Join { node, address });
struct_fields!(LeaderAt { node, address });

/// A request as bytes.
pub fn encode_request(request: &Request) -> Vec<u8> {
    let mut bytes = vec![CONTROL, VERSION];
    request.put(&mut bytes);
    bytes
}

/// A reply as bytes.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let mut bytes = vec![CONTROL, VERSION];
    reply.put(&mut bytes);
    bytes
}

/// Reads a request behind its first byte, or a whole reply behind that.
///
/// # Errors
/// When the bytes are none.
pub fn decode<T: Field>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    match u8::take(&mut reader)? {
        VERSION => {}
        other => return Err(DecodeError::UnknownVersion(other)),
    }
    let message = T::take(&mut reader)?;
    reader.finish()?;
    Ok(message)
}

/// Reads a reply.
///
/// # Errors
/// When the bytes are none.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, DecodeError> {
    match bytes.split_first() {
        Some((&CONTROL, rest)) => decode(rest),
        Some((other, _)) => Err(DecodeError::UnknownKind(*other)),
        None => Err(DecodeError::Truncated),
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::ids::{Epoch, Offset, PartitionIndex, TopicId, TopicPartition};
    use heddle_replication::{leadership::SealAnswer, message::Life};

    use super::*;

    #[test]
    fn every_message_comes_back_and_no_prefix_does() {
        let at = TopicPartition::new(TopicId::new([7; 16]), PartitionIndex::new(3));
        let answer = SealAnswer {
            life: Life(2),
            accepted: Epoch::new(4),
            end: Offset::new(100),
            last_epoch: Epoch::new(3),
            forgot: true,
        };
        let tell = Tell {
            node: 1,
            life: 2,
            is_leaving: true,
            sealed: vec![Sealed { at, epoch: 5, answer }],
            wishes: vec![Wish { at, epoch: 4 }],
        };
        let join = Join { node: 4, address: "h:9192".to_owned() };
        let requests = [
            Request::Tell(tell),
            Request::Join(join),
            Request::HandOver(vec![Wish { at, epoch: 4 }]),
            Request::Remove(3),
            Request::WhoLives,
        ];
        for request in requests {
            let bytes = encode_request(&request);
            assert_eq!(decode(&bytes[1..]), Ok(request));
            (1..bytes.len()).for_each(|length| {
                decode::<Request>(&bytes[1..length]).expect_err("it is cut");
            });
        }
        let replies = [
            Reply::Done,
            Reply::NotLeader(Some(LeaderAt { node: 2, address: "h:1".to_owned() })),
            Reply::Refused("why".to_owned()),
            Reply::Alive(1, vec![1, 3]),
        ];
        for reply in replies {
            assert_eq!(decode_reply(&encode_reply(&reply)), Ok(reply));
        }
    }
}
