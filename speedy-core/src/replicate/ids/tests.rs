use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::super::tests::TestMaster;
use super::*;

fn source(range: u32) -> (Arc<TestMaster>, IdSource) {
    let master = Arc::new(TestMaster::default());
    let options = ReplicationOptions::new().with_id_range(range).unwrap();
    (Arc::clone(&master), IdSource::new(master, &options))
}

const GROUP: GroupId = GroupId::new(1);

#[tokio::test(start_paused = true)]
async fn ids_are_unique_with_a_master_that_fails_half_the_time() {
    let (master, ids) = source(64);
    master.flaky.store(true, Ordering::Relaxed);
    master.lose_answers.store(20, Ordering::Relaxed);
    let takers = (0..50).map(|_| {
        let ids = ids.clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while taken.len() < 200 {
                match ids.next(GROUP).await {
                    Ok(id) => taken.push(id),
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
            }
            taken
        })
    });
    let mut all = HashSet::new();
    for taker in futures_util::future::join_all(takers).await {
        for id in taker.unwrap() {
            assert!(all.insert(id), "{id} was handed out twice");
        }
    }
    assert_eq!(all.len(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn the_next_range_is_fetched_ahead_and_once() {
    let (master, ids) = source(100);
    let calls = || master.calls.load(Ordering::Relaxed);
    let first = futures_util::future::join_all((0..40).map(|_| ids.next(GROUP))).await;
    assert_eq!(first.into_iter().collect::<Result<HashSet<_>, _>>().unwrap().len(), 40);
    assert_eq!(calls(), 1, "all waited for one fetch");
    for _ in 40..49 {
        ids.next(GROUP).await.unwrap();
    }
    assert_eq!(calls(), 1);
    for _ in 49..60 {
        ids.next(GROUP).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(calls(), 2);
    master.down.store(true, Ordering::Relaxed);
    for _ in 60..200 {
        ids.next(GROUP).await.unwrap();
    }
    assert!(ids.next(GROUP).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_group_has_its_own_ids() {
    let (_, ids) = source(10);
    assert_eq!(ids.next(GroupId::new(1)).await.unwrap(), ChunkId::new(1));
    assert_eq!(ids.next(GroupId::new(2)).await.unwrap(), ChunkId::new(1));
    assert_eq!(ids.next(GroupId::new(1)).await.unwrap(), ChunkId::new(2));
}

#[tokio::test(start_paused = true)]
async fn a_range_that_was_handed_out_before_is_refused() {
    let (master, ids) = source(2);
    ids.next(GROUP).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    master.forget(GROUP);
    let mut taken = vec![1];
    let error = loop {
        match ids.next(GROUP).await {
            Ok(id) => taken.push(id.get()),
            Err(error) => break error,
        }
        assert!(taken.len() < 10, "ids go on from a range that was handed out before: {taken:?}");
    };
    assert_eq!(taken, [1, 2, 3, 4]);
    assert!(matches!(&error, MasterError::Refused(text) if text.contains("restored")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_master_that_does_not_answer_is_given_up_and_its_late_range_wasted() {
    #[derive(Debug)]
    struct Silent;

    #[async_trait::async_trait]
    impl Master for Silent {
        async fn topology(&self) -> Result<crate::placement::Topology, MasterError> {
            std::future::pending().await
        }
        async fn heartbeat(
            &self,
            _: crate::placement::Heartbeat,
        ) -> Result<crate::placement::HeartbeatReply, MasterError> {
            std::future::pending().await
        }
        async fn allocate_chunks(&self, _: GroupId, _: u32) -> Result<Range<u64>, MasterError> {
            std::future::pending().await
        }
    }

    let ids = IdSource::new(Arc::new(Silent), &ReplicationOptions::new());
    let start = Instant::now();
    let error = ids.next(GROUP).await.unwrap_err();
    assert!(matches!(error, MasterError::Unavailable(_)), "{error:?}");
    assert_eq!(start.elapsed(), FETCH_TIMEOUT);
    // The next one in line does not wait as long again.
    assert!(ids.next(GROUP).await.is_err());
    assert_eq!(start.elapsed(), FETCH_TIMEOUT);
}
