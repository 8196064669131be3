//! Who is let in, who is not and is told why, and who joins.

use std::time::{Duration, Instant};

use heddle_net::socket::pause;
use heddle_proto::ids::NodeId;
use heddle_replication_transport::calls::{CallError, CallFrom, Joined, join};
use heddle_replication_transport::handshake::{Identity, Secret};
use heddle_replication_transport::wire::{Purpose, Refusal};

use crate::node::*;

#[test]
fn who_does_not_belong_here_is_told_why() {
    run(async || {
        let two = Node::new(identity(2), secret(1), options(), "127.0.0.1:0");
        let one = Node::up(1);
        let why = unreachable(one.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::Purpose.to_string()), "nobody answers yet: {why}");
        two.answer();
        let stranger = Node::new(identity(1), secret(2), options(), "127.0.0.1:0");
        let why = unreachable(stranger.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::Secret.to_string()), "{why}");
        let foreign = Identity { cluster: "warp".into(), ..identity(1) };
        let foreign = Node::new(foreign, secret(1), options(), "127.0.0.1:0");
        let why = unreachable(foreign.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::Cluster.to_string()), "{why}");
        let why = unreachable(stranger.ask(3, &two.address, b"x").await);
        assert!(why.contains(&Refusal::NotMe.to_string()), "{why}");
        assert!(two.asked.borrow().is_empty());
        let refused = two.door.handshakes().refused;
        assert_eq!(refused.get(&Refusal::Secret), Some(&1));
        [one, two, stranger, foreign].iter().for_each(Node::stop);
    });
}

#[test]
fn a_node_id_in_use_is_refused_while_the_other_process_is_there() {
    run(async || {
        let (one, two) = (Node::up(1), Node::up(2));
        assert!(one.ask(2, &two.address, b"x").await.is_ok());
        let again = Identity { process: [99; 16], ..identity(1) };
        let again = Node::new(again, secret(1), options(), "127.0.0.1:0");
        let why = unreachable(again.ask(2, &two.address, b"x").await);
        assert!(why.contains(&Refusal::NodeInUse.to_string()), "{why}");
        one.stop();
        let began = Instant::now();
        while again.ask(2, &two.address, b"x").await.is_err() {
            assert!(began.elapsed() < NEVER, "a restarted node is let in");
            pause(Duration::from_millis(5)).await;
        }
        again.stop();
        two.stop();
    });
}

#[test]
fn a_node_without_a_cluster_joins_if_it_knows_the_secret() {
    run(async || {
        let two = Node::up(2);
        let new = Identity { cluster: String::new(), ..identity(5) };
        let ask = async |identity: &Identity, with: u8, request: &[u8]| {
            join(&two.address, identity, &secret(with), options(), request.to_vec()).await
        };
        let (cluster, reply) = ("loom".to_owned(), b"gniht".to_vec());
        let joined = Joined { cluster, node: NodeId::new(2), reply };
        assert_eq!(ask(&new, 1, b"thing").await, Ok(joined.clone()));
        assert_eq!(*two.asked.borrow(), [CallFrom { node: NodeId::new(5), purpose: Purpose::Join }]);
        assert_eq!(ask(&identity(5), 1, b"thing").await, Ok(joined), "it expects that cluster");
        let why = |outcome: Result<Joined, CallError>| unreachable(outcome.map(|joined| joined.reply));
        let secret = why(ask(&new, 2, b"thing").await);
        assert!(secret.contains(&Refusal::Secret.to_string()), "{secret}");
        let own = Identity { me: peer(2), ..new.clone() };
        let own = why(ask(&own, 1, b"thing").await);
        assert!(own.contains(&Refusal::OwnNode.to_string()), "{own}");
        let other = Identity { cluster: "warp".into(), ..new.clone() };
        let other = why(ask(&other, 1, b"thing").await);
        assert!(other.contains(&Refusal::Cluster.to_string()), "{other}");
        let bad = ask(&new, 1, b"bad").await;
        assert!(matches!(bad, Err(CallError::Lost(_))), "{bad:?}");
        let nobody = listener("127.0.0.1:0").local_addr().to_string();
        why(join(&nobody, &new, &Secret::new(&[1; 32]).unwrap(), options(), Vec::new()).await);
        assert_eq!(two.asked.borrow().len(), 3);
        two.stop();
    });
}
