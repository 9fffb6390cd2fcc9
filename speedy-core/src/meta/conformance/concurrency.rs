use std::collections::HashSet;

use futures_util::future::join_all;

use super::{Store, commit, get, key, put};
use crate::meta::{Check, KeyRange, Outcome, Transaction, Version, Write};

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

pub(super) async fn increments_by_compare_and_set_lose_nothing(store: Store) {
    const TASKS: u64 = 8;
    const EACH: u64 = 25;
    let tasks = (0..TASKS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut versions = Vec::new();
            while versions.len() < EACH as usize {
                let entry = get(&store, "counter").await;
                let next = entry.as_ref().map_or(0, |entry| number(&entry.value)) + 1;
                let increment = put("counter", next.to_string()).unchanged(key("counter"), entry.as_ref());
                if let Outcome::Committed(version) = store.transact(increment).await.unwrap() {
                    versions.push(version);
                }
            }
            versions
        })
    });
    let mut versions = HashSet::<Version>::new();
    for task in tasks.collect::<Vec<_>>() {
        versions.extend(task.await.unwrap());
    }
    assert_eq!(versions.len() as u64, TASKS * EACH, "every commit has a version of its own");
    assert_eq!(number(&get(&store, "counter").await.unwrap().value), TASKS * EACH);
}

pub(super) async fn one_of_many_creators_wins(store: Store) {
    for round in 0..10 {
        let name = format!("prize/{round}");
        let creators = (0..16).map(|who| {
            let create = put(name.clone(), who.to_string()).check(Check::Absent(name.clone().into()));
            let store = store.clone();
            tokio::spawn(async move { store.transact(create).await.unwrap() })
        });
        let outcomes = join_all(creators.collect::<Vec<_>>()).await;
        let winners: Vec<_> = (0..16).filter(|&who| outcomes[who].as_ref().unwrap().is_committed()).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(get(&store, name).await.unwrap().value, winners[0].to_string());
    }
}

pub(super) async fn a_range_is_not_both_found_empty_and_filled(store: Store) {
    // A collector kills what has no references, while somebody adds one to what lives.
    for round in 0..30 {
        let (blob, references) = (format!("blob/{round}"), format!("reference/{round}/"));
        let live = commit(&store, put(blob.clone(), "live")).await;
        let kill = put(blob.clone(), "dead").check(Check::RangeEmpty(KeyRange::prefix(references.clone())));
        let refer = put(format!("{references}tag"), "").check(Check::Version(blob.into(), live));
        let mut both = [kill, refer];
        both.rotate_left(round % 2);
        let tasks = both.map(|transaction| {
            let store = store.clone();
            tokio::spawn(async move { store.transact(transaction).await.unwrap().is_committed() })
        });
        let committed = join_all(tasks).await.into_iter().filter(|task| *task.as_ref().unwrap()).count();
        assert_eq!(committed, 1, "one is judged first and the other then fails");
    }
}

pub(super) async fn a_transfer_is_never_seen_half_done(store: Store) {
    commit(&store, put("left", "100").write(Write::Put("right".into(), "0".into()))).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for moved in 1..=100_u64 {
                let left = (100 - moved).to_string();
                let transfer = put("left", left).write(Write::Put("right".into(), moved.to_string().into()));
                commit(&store, transfer).await;
            }
        })
    };
    while !writer.is_finished() {
        let both = store.get_many(&[key("left"), key("right")]).await.unwrap();
        let sum: u64 = both.iter().flatten().map(|entry| number(&entry.value)).sum();
        assert_eq!(sum, 100, "a read of many keys is one snapshot");
        let page = store.scan(KeyRange::prefix(""), 10).await.unwrap();
        let sum: u64 = page.entries.iter().map(|entry| number(&entry.value)).sum();
        assert_eq!(sum, 100, "a page is one snapshot");
        // A store in memory never waits, and the writer may have only this thread.
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

pub(super) async fn a_transaction_sent_many_times_at_once_is_applied_once(store: Store) {
    let once: Transaction = put("k", "1").check(Check::Absent("k".into()));
    let tasks = (0..16).map(|_| {
        let (store, once) = (store.clone(), once.clone());
        tokio::spawn(async move { store.transact(once).await.unwrap() })
    });
    let outcomes = join_all(tasks.collect::<Vec<_>>()).await;
    let version = get(&store, "k").await.unwrap().version;
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), Outcome::Committed(version));
    }
}
