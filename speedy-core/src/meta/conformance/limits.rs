use bytes::Bytes;

use super::{Store, commit, get, key, put};
use crate::meta::{
    Check, KeyRange, MAX_GET_KEYS, MAX_KEY_LEN, MAX_PAGE_ENTRIES, MAX_TRANSACTION_BYTES,
    MAX_TRANSACTION_OPERATIONS, MAX_VALUE_LEN, MetaError, Transaction, Write,
};

fn bytes(length: usize) -> Bytes {
    vec![b'x'; length].into()
}

async fn refused(store: &Store, transaction: Transaction) {
    let result = store.transact(transaction).await;
    assert!(matches!(result, Err(MetaError::Invalid(_))), "{result:?}");
}

pub(super) async fn keys_at_the_limit_are_taken_and_beyond_it_refused(store: Store) {
    commit(&store, put(bytes(MAX_KEY_LEN), "longest")).await;
    assert_eq!(get(&store, bytes(MAX_KEY_LEN)).await.unwrap().value, "longest");
    commit(&store, Transaction::new().check(Check::Absent(bytes(MAX_KEY_LEN - 1)))).await;
    for wrong in [Bytes::new(), bytes(MAX_KEY_LEN + 1)] {
        refused(&store, put(wrong.clone(), "")).await;
        refused(&store, Transaction::new().write(Write::Delete(wrong.clone()))).await;
        refused(&store, Transaction::new().check(Check::Absent(wrong.clone()))).await;
        assert!(matches!(store.get(wrong).await, Err(MetaError::Invalid(_))));
    }
    // A scan goes on after the longest key with a bound that is one byte longer.
    let rest = KeyRange::prefix("x").after(&bytes(MAX_KEY_LEN));
    assert!(store.scan(rest.clone(), 1).await.unwrap().entries.is_empty());
    commit(&store, Transaction::new().check(Check::RangeEmpty(rest))).await;
    let long = KeyRange { start: bytes(MAX_KEY_LEN + 2), end: None };
    assert!(matches!(store.scan(long.clone(), 1).await, Err(MetaError::Invalid(_))));
    refused(&store, Transaction::new().check(Check::RangeEmpty(long))).await;
}

pub(super) async fn values_at_the_limit_are_taken_and_beyond_it_refused(store: Store) {
    commit(&store, put("value", bytes(MAX_VALUE_LEN))).await;
    refused(&store, put("value", bytes(MAX_VALUE_LEN + 1))).await;
    assert_eq!(get(&store, "value").await.unwrap().value.len(), MAX_VALUE_LEN);
}

pub(super) async fn operations_at_the_limit_are_taken_and_beyond_it_refused(store: Store) {
    let of = |operations: usize| {
        let checks = (0..operations / 2).map(|number| Check::Absent(key(format!("c{number}"))));
        let writes = (operations / 2..operations).map(|number| Write::Delete(key(format!("w{number}"))));
        writes.fold(checks.fold(Transaction::new(), Transaction::check), Transaction::write)
    };
    commit(&store, of(MAX_TRANSACTION_OPERATIONS)).await;
    refused(&store, of(MAX_TRANSACTION_OPERATIONS + 1).write(Write::Put("trace".into(), "".into()))).await;
    assert_eq!(get(&store, "trace").await, None);
}

pub(super) async fn bytes_at_the_limit_are_taken_and_beyond_it_refused(store: Store) {
    let of = |total: usize| {
        let mut left = total;
        let mut transaction = Transaction::new();
        while left > 0 {
            let name = format!("{left:08}");
            let length = MAX_VALUE_LEN.min(left - name.len());
            left -= name.len() + length;
            transaction = transaction.write(Write::Put(name.into(), bytes(length)));
        }
        assert_eq!(transaction.bytes(), total);
        transaction
    };
    commit(&store, of(MAX_TRANSACTION_BYTES)).await;
    refused(&store, of(MAX_TRANSACTION_BYTES + 1)).await;
    assert_eq!(get(&store, format!("{:08}", MAX_TRANSACTION_BYTES + 1)).await, None);
}

pub(super) async fn pages_and_reads_are_limited(store: Store) {
    let all = KeyRange::prefix(Bytes::new());
    assert!(store.scan(all.clone(), MAX_PAGE_ENTRIES).await.is_ok());
    assert!(matches!(store.scan(all.clone(), MAX_PAGE_ENTRIES + 1).await, Err(MetaError::Invalid(_))));
    assert!(matches!(store.scan(all, 0).await, Err(MetaError::Invalid(_))));
    let mut many = vec![key("k"); MAX_GET_KEYS];
    assert_eq!(store.get_many(&many).await.unwrap().len(), MAX_GET_KEYS);
    many.push(key("k"));
    assert!(matches!(store.get_many(&many).await, Err(MetaError::Invalid(_))));
}

pub(super) async fn a_key_written_twice_is_refused(store: Store) {
    refused(&store, put("twice", "1").write(Write::Put("twice".into(), "2".into()))).await;
    refused(&store, put("twice", "1").write(Write::Delete("twice".into()))).await;
    assert_eq!(get(&store, "twice").await, None);
    // To check a key and write it is what compare-and-set means.
    commit(&store, put("twice", "1").check(Check::Absent("twice".into()))).await;
}
