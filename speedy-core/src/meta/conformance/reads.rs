use bytes::Bytes;

use super::{Store, commit, get, key, keys, put};
use crate::meta::{KeyRange, MAX_TRANSACTION_BYTES, MAX_VALUE_LEN, Transaction, Write};

pub(super) async fn an_absent_key_has_no_entry(store: Store) {
    assert_eq!(get(&store, "absent").await, None);
    assert!(keys(&store, KeyRange::prefix(Bytes::new())).await.is_empty());
}

pub(super) async fn keys_are_answered_in_the_order_asked(store: Store) {
    let version = commit(&store, put("b", "2").write(Write::Put("a".into(), "1".into()))).await;
    let asked = ["b", "c", "a", "b"].map(key);
    let found = store.get_many(&asked).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|entry| entry.map(|e| (e.key, e.value, e.version))).collect();
    let b = Some((key("b"), key("2"), version));
    assert_eq!(found, [b.clone(), None, Some((key("a"), key("1"), version)), b]);
    assert!(store.get_many(&[]).await.unwrap().is_empty());
}

pub(super) async fn values_of_all_sizes_come_back(store: Store) {
    for length in [0, 1, 4095, 4096, 4097, MAX_VALUE_LEN] {
        let value: Bytes = (0..length).map(|at| (at * 7) as u8).collect();
        commit(&store, put("value", value.clone())).await;
        assert_eq!(get(&store, "value").await.unwrap().value, value, "{length} bytes");
    }
}

pub(super) async fn a_scan_is_in_bytewise_order(store: Store) {
    let sorted: [&[u8]; 9] = [b"\0", b"\0\0", b"\0\x01", b"A", b"a", b"a\0", b"aa", b"b", b"\xff"];
    for at in [4, 8, 0, 6, 2, 1, 7, 3, 5] {
        commit(&store, put(sorted[at], "")).await;
    }
    assert_eq!(keys(&store, KeyRange::prefix(Bytes::new())).await, sorted.map(key));
}

pub(super) async fn a_scan_stops_at_its_bounds(store: Store) {
    for name in ["a", "b", "b/1", "b/2", "b0", "c"] {
        commit(&store, put(name, "")).await;
    }
    assert_eq!(keys(&store, KeyRange::prefix("b/")).await, ["b/1", "b/2"].map(key));
    assert_eq!(keys(&store, KeyRange::prefix("b")).await, ["b", "b/1", "b/2", "b0"].map(key));
    assert_eq!(keys(&store, KeyRange::new("b", "c")).await, ["b", "b/1", "b/2", "b0"].map(key));
    assert_eq!(keys(&store, KeyRange { start: key("b0"), end: None }).await, ["b0", "c"].map(key));
    assert_eq!(keys(&store, KeyRange::prefix("b").after(b"b/1")).await, ["b/2", "b0"].map(key));
    assert!(keys(&store, KeyRange::new("b", "b")).await.is_empty());
    assert!(keys(&store, KeyRange::new("c", "b")).await.is_empty());
}

pub(super) async fn a_prefix_of_0xff_has_no_end(store: Store) {
    let below: &[u8] = b"\xfe\xff";
    let inside: [&[u8]; 4] = [b"\xff", b"\xff\0", b"\xff\xff", b"\xff\xff\xff"];
    commit(&store, put(below, "")).await;
    for name in inside {
        commit(&store, put(name, "")).await;
    }
    assert_eq!(keys(&store, KeyRange::prefix(&b"\xff"[..])).await, inside.map(key));
    assert_eq!(keys(&store, KeyRange::prefix(&b"\xff\xff"[..])).await, [inside[2], inside[3]].map(key));
    assert_eq!(keys(&store, KeyRange::prefix(&b"\xfe"[..])).await, [below].map(key));
}

pub(super) async fn pages_join_without_gap_or_repetition(store: Store) {
    let names: Vec<Bytes> = (0..100).map(|number| key(format!("p/{number:03}"))).collect();
    for batch in names.chunks(50) {
        let puts = batch.iter().map(|name| Write::Put(name.clone(), name.clone()));
        commit(&store, puts.fold(Transaction::new(), Transaction::write)).await;
    }
    commit(&store, put("q", "")).await;
    for limit in [1, 7, 50, 99, 100, 101] {
        let mut range = Some(KeyRange::prefix("p/"));
        let mut met = Vec::new();
        while let Some(left) = range {
            let page = store.scan(left, limit).await.unwrap();
            assert!(page.entries.len() <= limit);
            assert!(page.next.is_none() || !page.entries.is_empty(), "a page makes progress");
            met.extend(page.entries.into_iter().map(|entry| entry.key));
            range = page.next;
        }
        assert_eq!(met, names, "pages of {limit}");
    }
}

pub(super) async fn a_page_of_large_values_ends_early(store: Store) {
    let value = Bytes::from(vec![7; MAX_VALUE_LEN]);
    let count = 3 * MAX_TRANSACTION_BYTES / MAX_VALUE_LEN;
    for number in 0..count {
        commit(&store, put(format!("large/{number:02}"), value.clone())).await;
    }
    let first = store.scan(KeyRange::prefix("large/"), count).await.unwrap();
    assert!(first.entries.len() < count, "a page holds about {MAX_TRANSACTION_BYTES} bytes at the most");
    let mut met = first.entries.len();
    let mut rest = first.next;
    while let Some(range) = rest {
        let page = store.scan(range, count).await.unwrap();
        met += page.entries.len();
        rest = page.next;
    }
    assert_eq!(met, count);
}

pub(super) async fn the_clock_never_goes_back(store: Store) {
    let clocks = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut last = store.now().await.unwrap();
            for _ in 0..200 {
                let now = store.now().await.unwrap();
                assert!(now >= last);
                last = now;
            }
            last
        })
    });
    let mut latest = store.now().await.unwrap();
    assert!(latest.0 > 1_600_000_000_000, "milliseconds since the Unix epoch");
    for clock in clocks.collect::<Vec<_>>() {
        latest = latest.max(clock.await.unwrap());
    }
    assert!(store.now().await.unwrap() >= latest, "one clock for all that ask");
}
