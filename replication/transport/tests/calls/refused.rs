//! Who is let in, who is not and is told why, and who joins.

use std::time::{Duration, Instant};

use heddle_net::socket::pause;
use heddle_proto::ids::NodeId;
use heddle_replication_transport::calls::{CallFrom, JoinError, Joined, cluster_at, join};
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
        let refused = |refusal| Err(JoinError::Refused(refusal));
        assert_eq!(ask(&new, 2, b"thing").await, refused(Refusal::Secret));
        let own = Identity { me: peer(2), ..new.clone() };
        assert_eq!(ask(&own, 1, b"thing").await, refused(Refusal::OwnNode));
        let other = Identity { cluster: "warp".into(), ..new.clone() };
        assert_eq!(ask(&other, 1, b"thing").await, refused(Refusal::Cluster));
        // Who belongs elsewhere, or has the id of the node there, is told all the same which cluster that is.
        for asker in [&own, &other] {
            let cluster = cluster_at(&two.address, asker, &secret(1), options()).await;
            assert_eq!(cluster, Ok("loom".to_owned()));
        }
        let kept = cluster_at(&two.address, &new, &secret(2), options()).await;
        assert_eq!(kept, Err(JoinError::Refused(Refusal::Secret)));
        let bad = ask(&new, 1, b"bad").await;
        assert!(matches!(bad, Err(JoinError::Lost(_))), "{bad:?}");
        let nobody = listener("127.0.0.1:0").local_addr().to_string();
        let alone = join(&nobody, &new, &Secret::new(&[1; 32]).unwrap(), options(), Vec::new()).await;
        assert!(matches!(alone, Err(JoinError::Unreachable(_))), "{alone:?}");
        assert_eq!(two.asked.borrow().len(), 3);
        two.stop();
    });
}
