use super::{Store, commit, get, key, put};
use crate::meta::{Check, KeyRange, Outcome, Transaction, Version, Write};

/// Whether a transaction of this one check, which writes nothing, is committed.
async fn holds(store: &Store, check: Check) -> bool {
    store.transact(Transaction::new().check(check)).await.unwrap().is_committed()
}

pub(super) async fn versions_rise_with_every_commit(store: Store) {
    let mut last = Version(0);
    for number in 0..20 {
        let version = commit(&store, put(format!("k{}", number % 3), "")).await;
        assert!(version > last, "{version:?} after {last:?}");
        last = version;
    }
}

pub(super) async fn a_key_written_again_after_its_deletion_has_a_higher_version(store: Store) {
    let first = commit(&store, put("k", "1")).await;
    let deleted = commit(&store, Transaction::new().write(Write::Delete("k".into()))).await;
    assert_eq!(get(&store, "k").await, None);
    let second = commit(&store, put("k", "1")).await;
    assert!(first < deleted && deleted < second);
    assert!(!holds(&store, Check::Version(key("k"), first)).await, "an old version never comes back");
}

pub(super) async fn all_writes_of_a_commit_have_its_version(store: Store) {
    commit(&store, put("other", "")).await;
    let version = commit(&store, put("a", "1").write(Write::Put("b".into(), "2".into()))).await;
    assert_eq!(get(&store, "a").await.unwrap().version, version);
    assert_eq!(get(&store, "b").await.unwrap().version, version);
    assert!(get(&store, "other").await.unwrap().version < version);
}

pub(super) async fn absent_holds_for_absent_keys_only(store: Store) {
    assert!(holds(&store, Check::Absent(key("k"))).await);
    commit(&store, put("k", "")).await;
    assert!(!holds(&store, Check::Absent(key("k"))).await);
    assert!(holds(&store, Check::Absent(key("k\0"))).await);
    commit(&store, Transaction::new().write(Write::Delete("k".into()))).await;
    assert!(holds(&store, Check::Absent(key("k"))).await);
}

pub(super) async fn version_holds_for_that_version_only(store: Store) {
    let first = commit(&store, put("k", "1")).await;
    assert!(holds(&store, Check::Version(key("k"), first)).await);
    let second = commit(&store, put("k", "1")).await;
    assert!(!holds(&store, Check::Version(key("k"), first)).await);
    assert!(holds(&store, Check::Version(key("k"), second)).await);
    assert!(!holds(&store, Check::Version(key("absent"), second)).await);
    assert!(!holds(&store, Check::Version(key("absent"), Version(0))).await);
}

pub(super) async fn range_empty_holds_for_empty_ranges_only(store: Store) {
    commit(&store, put("b", "")).await;
    let cases = [
        (KeyRange::new("a", "b"), true),
        (KeyRange::new("a", "b\0"), false),
        (KeyRange::new("b", "c"), false),
        (KeyRange::new("b\0", "c"), true),
        (KeyRange::new("c", "a"), true),
        (KeyRange::prefix("b"), false),
        (KeyRange::prefix("c"), true),
        (KeyRange { start: key("a"), end: None }, false),
        (KeyRange { start: key("c"), end: None }, true),
    ];
    for (range, empty) in cases {
        assert_eq!(holds(&store, Check::RangeEmpty(range.clone())).await, empty, "{range:?}");
    }
    commit(&store, Transaction::new().write(Write::Delete("b".into()))).await;
    assert!(holds(&store, Check::RangeEmpty(KeyRange::prefix("b"))).await);
}

pub(super) async fn the_first_failing_check_is_named(store: Store) {
    let version = commit(&store, put("k", "")).await;
    let good = [Check::Version(key("k"), version), Check::Absent(key("absent"))];
    let bad = [
        Check::Absent(key("k")),
        Check::Version(key("k"), Version(version.0 + 1)),
        Check::RangeEmpty(KeyRange::prefix("k")),
    ];
    for bad in bad {
        let checks = [&good[..], std::slice::from_ref(&bad), &good[..], &[Check::Absent(key("k"))]].concat();
        let transaction = checks.into_iter().fold(put("trace", ""), Transaction::check);
        assert_eq!(store.transact(transaction).await.unwrap(), Outcome::Conflict(2), "{bad:?}");
    }
}

pub(super) async fn a_conflict_leaves_no_trace(store: Store) {
    let before = commit(&store, put("kept", "1").write(Write::Put("deleted".into(), "1".into()))).await;
    let conflict = put("new", "2")
        .write(Write::Put("kept".into(), "2".into()))
        .write(Write::Delete("deleted".into()))
        .check(Check::Absent("kept".into()));
    assert_eq!(store.transact(conflict).await.unwrap(), Outcome::Conflict(0));
    assert_eq!(get(&store, "new").await, None);
    for name in ["kept", "deleted"] {
        let entry = get(&store, name).await.unwrap();
        assert_eq!((entry.value, entry.version), (key("1"), before));
    }
}

pub(super) async fn checks_see_the_state_before_the_writes(store: Store) {
    let create = put("k", "1").check(Check::Absent("k".into()));
    let first = commit(&store, create.check(Check::RangeEmpty(KeyRange::prefix("k")))).await;
    let replace = Transaction::new().check(Check::Version("k".into(), first));
    commit(&store, replace.write(Write::Delete("k".into()))).await;
    assert_eq!(get(&store, "k").await, None);
}

pub(super) async fn a_repeated_transaction_is_applied_once(store: Store) {
    for transaction in [put("k", "1").check(Check::Absent("k".into())), put("l", "1").relaxed()] {
        let written = transaction.writes[0].key().clone();
        let first = commit(&store, transaction.clone()).await;
        let later = commit(&store, put(written.clone(), "2")).await;
        assert_eq!(
            commit(&store, transaction.clone()).await,
            first,
            "the first commit's version is the answer"
        );
        let entry = get(&store, written).await.unwrap();
        assert_eq!((entry.value, entry.version), (key("2"), later), "it was not applied again");
    }
}

pub(super) async fn an_id_is_free_again_after_a_conflict(store: Store) {
    commit(&store, put("k", "1")).await;
    let transaction = put("l", "1").check(Check::Absent("k".into()));
    assert_eq!(store.transact(transaction.clone()).await.unwrap(), Outcome::Conflict(0));
    commit(&store, Transaction::new().write(Write::Delete("k".into()))).await;
    let version = commit(&store, transaction).await;
    assert_eq!(get(&store, "l").await.unwrap().version, version);
}

pub(super) async fn an_empty_transaction_is_a_commit(store: Store) {
    let empty = Transaction::new();
    let version = commit(&store, empty.clone()).await;
    assert_eq!(commit(&store, empty).await, version);
    assert!(commit(&store, put("k", "")).await > version);
}

pub(super) async fn relaxed_writes_are_seen_at_once(store: Store) {
    let relaxed = commit(&store, put("k", "1").relaxed()).await;
    assert_eq!(get(&store, "k").await.unwrap().version, relaxed);
    let durable = put("k", "2").check(Check::Version("k".into(), relaxed));
    assert!(commit(&store, durable).await > relaxed);
    commit(&store, Transaction::new().write(Write::Delete("k".into())).relaxed()).await;
    assert_eq!(get(&store, "k").await, None);
}
