use parking_lot::Mutex;
use speedy_core::placement::MasterError;
use tokio::time::Instant;

use super::*;

/// Peers at ports where nobody listens: what they answer to calls is the test's, and of themselves they say nothing.
fn peers(choice: Choice, patience: Patience) -> Peers {
    Peers::new(&"127.0.0.1:1,127.0.0.1:2,127.0.0.1:3".parse().unwrap(), "a.Service", choice, patience)
}

fn sticky() -> Peers {
    peers(Choice::Sticky, Patience::WhileAlive)
}

/// Calls while the peers with the ports in `down` can't serve; returns who was asked.
async fn asked(peers: &Peers, down: &[u16]) -> Vec<u16> {
    let asked = Mutex::new(Vec::new());
    let _ = peers
        .call(|peer| {
            let port = peer.address().port();
            asked.lock().push(port);
            let result = match down.contains(&port) {
                true => Err(MasterError::Unavailable(port.to_string())),
                false => Ok(()),
            };
            async { result }
        })
        .await;
    asked.into_inner()
}

#[tokio::test]
async fn sticky_stays_with_the_one_that_answered() {
    let peers = sticky();
    assert_eq!(asked(&peers, &[]).await, [1]);
    assert_eq!(asked(&peers, &[1]).await, [1, 2]);
    assert_eq!(asked(&peers, &[1]).await, [2]);
    // The first failed and does not say how it is, so it is not asked a second time.
    assert_eq!(asked(&peers, &[2, 3]).await, [2, 3]);
    assert_eq!(asked(&peers, &[]).await, [0; 0], "nobody says anything");
}

#[tokio::test]
async fn spread_goes_round_those_that_serve() {
    let peers = peers(Choice::Spread, Patience::WhileAlive);
    assert_eq!(asked(&peers, &[]).await, [1]);
    assert_eq!(asked(&peers, &[2]).await, [2, 3]);
    let mut counts = [0; 4];
    for _ in 0..10 {
        let order = asked(&peers, &[2]).await;
        assert_eq!(order.len(), 1);
        counts[usize::from(order[0])] += 1;
    }
    assert_eq!(counts, [0, 5, 0, 5], "the others share evenly what it leaves");
}

#[tokio::test]
async fn a_refusal_is_an_answer() {
    let refuse = || async { Err::<(), _>(MasterError::Refused("no".into())) };
    assert_eq!(sticky().call(|_| refuse()).await, Err(MasterError::Refused("no".into())));
}

#[tokio::test]
async fn the_last_error_tells_who_could_not_be_reached() {
    let fail =
        |peer: Arc<Peer>| async move { Err::<(), _>(MasterError::Unavailable(peer.address().to_string())) };
    let peers = sticky();
    assert_eq!(peers.call(fail).await, Err(MasterError::Unavailable("127.0.0.1:3".into())));
    let Err(MasterError::Unavailable(text)) = peers.call(fail).await else { panic!("nobody is there") };
    assert!(text.contains("Connection refused"), "{text}");
}

/// Answers only from the last peer; the others stand still.
async fn stuck(peers: &Peers) -> (u16, Duration) {
    let begun = Instant::now();
    let call = |peer: Arc<Peer>| async move {
        let port = peer.address().port();
        match port {
            3 => Ok::<_, MasterError>(port),
            _ => std::future::pending().await,
        }
    };
    (peers.call(call).await.unwrap(), begun.elapsed())
}

#[tokio::test]
async fn one_that_stands_still_costs_a_short_time_once() {
    for patience in [Patience::Short, Patience::WhileAlive] {
        for choice in [Choice::Sticky, Choice::Spread] {
            let peers = peers(choice, patience);
            let (port, took) = stuck(&peers).await;
            assert_eq!(port, 3);
            assert!(took >= 2 * QUIET && took < 4 * QUIET, "{patience:?} {choice:?}: {took:?}");
            for _ in 0..5 {
                let (port, took) = stuck(&peers).await;
                assert_eq!(port, 3);
                assert!(took < QUIET / 2, "{patience:?} {choice:?}: {took:?}");
            }
        }
    }
}

#[tokio::test]
async fn with_nobody_else_to_ask_a_slow_one_is_waited_for() {
    let alone = Peers::new(&"127.0.0.1:1".parse().unwrap(), "a.Service", Choice::Sticky, Patience::Short);
    let slow = |_| async {
        tokio::time::sleep(3 * QUIET).await;
        Ok::<_, MasterError>(7)
    };
    assert_eq!(alone.call(slow).await, Ok(7));
    assert!(!alone.peers[0].is_passed_over());
}

#[tokio::test]
async fn a_part_that_does_not_come_is_given_up() {
    let peers = sticky();
    let peer = Arc::clone(&peers.peers[0]);
    let result = peers.part(&peer, std::future::pending::<Result<(), MasterError>>()).await;
    assert!(matches!(result, Err(MasterError::Unavailable(_))), "{result:?}");
    assert!(peer.is_passed_over());
    assert_eq!(peers.part(&peer, async { Ok::<_, MasterError>(5) }).await, Ok(5));
}
