use std::sync::atomic::Ordering;

use super::super::tests::TestMaster;
use super::*;

fn deadline(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_last_topology_stays_while_the_master_is_away() {
    let master = Arc::new(TestMaster::default());
    master.topology.lock().revision = 3;
    let routes = Routes::follow(master.clone(), Duration::from_secs(1));
    assert_eq!(routes.wait_for(deadline(1), |topology| topology.revision == 3).await.unwrap().revision, 3);
    master.down.store(true, Ordering::Relaxed);
    master.topology.lock().revision = 4;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(routes.current().revision, 3);
    master.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(routes.current().revision, 4);
    // An older one, of a master that was restored or lags, changes nothing.
    master.topology.lock().revision = 2;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(routes.current().revision, 4);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_news_hurries_the_question() {
    let master = Arc::new(TestMaster::default());
    master.topology.lock().revision = 1;
    let routes = Routes::follow(master.clone(), Duration::from_secs(60));
    routes.wait_for(deadline(1), |topology| topology.revision == 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    master.topology.lock().revision = 2;
    let start = Instant::now();
    routes.wait_for(deadline(30), |topology| topology.revision == 2).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn fixed_routes_do_not_wait_for_what_cannot_come() {
    let routes = Routes::fixed(Topology { revision: 7, groups: Vec::new() });
    let start = Instant::now();
    assert!(routes.wait_for(deadline(30), |topology| topology.revision == 8).await.is_none());
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(routes.current().revision, 7);
}

#[tokio::test(start_paused = true)]
async fn the_follower_ends_with_its_last_user() {
    let master = Arc::new(TestMaster::default());
    let routes = Routes::follow(master.clone(), Duration::from_secs(1));
    let other = routes.clone();
    drop(routes);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&master), 2);
    drop(other);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&master), 1);
}
