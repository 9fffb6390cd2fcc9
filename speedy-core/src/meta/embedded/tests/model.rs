//! Random transactions, reads and reopenings, compared with the store in memory at every step.

use proptest::prelude::*;

use super::*;
use crate::meta::{Check, Durability};

#[derive(Clone, Debug)]
enum Step {
    /// Several at once, so that they share a batch. They touch keys of their own, so that their order is of no matter.
    Transact(Vec<Draft>),
    Repeat(usize),
    Scan(KeyRange, usize),
    Reopen,
}

/// A transaction before the versions that it names are known.
#[derive(Clone, Debug)]
struct Draft {
    checks: Vec<(Kind, u8)>,
    writes: std::collections::BTreeMap<u8, Option<Vec<u8>>>,
    relaxed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Absent,
    Unchanged,
    Outdated,
    RangeEmpty,
}

fn key(number: u8, lane: usize) -> Bytes {
    // Keys that are prefixes of each other and end in the extremes.
    let tail: &[u8] =
        [&b"a"[..], b"a\0", b"a\xff", b"ab", b"b", b"\xff", b"\xff\xff", b"\0"][number as usize % 8];
    [format!("{lane}/").as_bytes(), tail].concat().into()
}

fn draft() -> impl Strategy<Value = Draft> {
    let kind = prop_oneof![
        1 => Just(Kind::Absent),
        4 => Just(Kind::Unchanged),
        1 => Just(Kind::Outdated),
        1 => Just(Kind::RangeEmpty),
    ];
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (3000..9000usize).prop_map(|length| vec![length as u8; length]),
    ];
    (
        proptest::collection::vec((kind, 0..8u8), 0..3),
        proptest::collection::btree_map(0..8u8, proptest::option::weighted(0.7, value), 0..4),
        any::<bool>(),
    )
        .prop_map(|(checks, writes, relaxed)| Draft { checks, writes, relaxed })
}

fn step() -> impl Strategy<Value = Step> {
    let range =
        (any::<bool>(), 0..8u8, 0..8u8, 0..3usize).prop_map(|(prefix, from, to, lane)| match prefix {
            true => KeyRange::prefix(key(from, lane)),
            false => KeyRange::new(key(from, lane), key(to, lane)),
        });
    prop_oneof![
        8 => proptest::collection::vec(draft(), 1..4).prop_map(Step::Transact),
        1 => (0..1000usize).prop_map(Step::Repeat),
        2 => (range, 1..5usize).prop_map(|(range, limit)| Step::Scan(range, limit)),
        1 => Just(Step::Reopen),
    ]
}

/// Both stores, and what is needed to compare them: their versions differ, so each has its own in the checks.
struct Pair {
    model: MemoryMeta,
    store: EmbeddedMeta,
    sent: Vec<(Transaction, Transaction, Outcome, Outcome)>,
}

impl Pair {
    async fn build(&self, draft: &Draft, lane: usize) -> (Transaction, Transaction) {
        let mut pair = (Transaction::new(), Transaction::new());
        pair.1.id = pair.0.id;
        for &(kind, number) in &draft.checks {
            let key = key(number, lane);
            let in_model = self.model.get(key.clone()).await.unwrap();
            let in_store = self.store.get(key.clone()).await.unwrap();
            let check = |entry: Option<Entry>| match (kind, entry) {
                (Kind::Absent, _) | (Kind::Unchanged, None) => Check::Absent(key.clone()),
                (Kind::Unchanged, Some(entry)) => Check::Version(key.clone(), entry.version),
                (Kind::Outdated, entry) => {
                    Check::Version(key.clone(), Version(entry.map_or(1, |entry| entry.version.0 - 1)))
                }
                (Kind::RangeEmpty, _) => Check::RangeEmpty(KeyRange::prefix(key.clone())),
            };
            pair = (pair.0.check(check(in_model)), pair.1.check(check(in_store)));
        }
        for (&number, value) in &draft.writes {
            let key = key(number, lane);
            let write = match value {
                Some(value) => Write::Put(key, value.clone().into()),
                None => Write::Delete(key),
            };
            pair = (pair.0.write(write.clone()), pair.1.write(write));
        }
        if draft.relaxed {
            pair = (pair.0.relaxed(), pair.1.relaxed());
        }
        pair
    }

    async fn transact(&mut self, drafts: &[Draft]) {
        let mut built = Vec::new();
        for (lane, draft) in drafts.iter().enumerate() {
            built.push(self.build(draft, lane).await);
        }
        let together = built.iter().map(|(_, transaction)| self.store.transact(transaction.clone()));
        let outcomes = futures_util::future::join_all(together).await;
        for ((in_model, in_store), outcome) in built.into_iter().zip(outcomes) {
            let expected = self.model.transact(in_model.clone()).await.unwrap();
            let outcome = outcome.unwrap();
            self.compare(expected, outcome);
            self.sent.push((in_model, in_store, expected, outcome));
        }
    }

    fn compare(&self, expected: Outcome, outcome: Outcome) {
        match (expected, outcome) {
            (Outcome::Conflict(expected), Outcome::Conflict(position)) => assert_eq!(position, expected),
            (Outcome::Committed(_), Outcome::Committed(_)) => {}
            _ => panic!("{outcome:?} where the model says {expected:?}"),
        }
    }

    async fn repeat(&mut self, which: usize) {
        let Some((in_model, in_store, expected, outcome)) =
            self.sent.get(which % self.sent.len().max(1)).cloned()
        else {
            return;
        };
        let again = (
            self.model.transact(in_model).await.unwrap(),
            self.store.transact(Transaction { durability: Durability::Durable, ..in_store }).await.unwrap(),
        );
        if expected.is_committed() {
            assert_eq!(again, (expected, outcome), "the first answer is given again");
        } else {
            self.compare(again.0, again.1);
        }
    }

    async fn scan(&self, range: KeyRange, limit: usize) {
        let mut ranges = (Some(range.clone()), Some(range));
        while let (Some(in_model), Some(in_store)) = ranges {
            let expected = self.model.scan(in_model, limit).await.unwrap();
            let page = self.store.scan(in_store, limit).await.unwrap();
            let plain = |page: &Page| -> Vec<_> {
                page.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
            };
            assert_eq!(plain(&page), plain(&expected));
            ranges = (expected.next, page.next);
        }
        assert_eq!(ranges, (None, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_embedded_store_does_what_the_store_in_memory_does(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut pair = Pair { model: MemoryMeta::new(), store: open(directory.path()), sent: Vec::new() };
            for step in steps {
                match step {
                    Step::Transact(drafts) => pair.transact(&drafts).await,
                    Step::Repeat(which) => pair.repeat(which).await,
                    Step::Scan(range, limit) => pair.scan(range, limit).await,
                    Step::Reopen => {
                        let Pair { model, store, sent } = pair;
                        store.close();
                        pair = Pair { model, store: open(directory.path()), sent };
                    }
                }
            }
            pair.scan(KeyRange::prefix(Bytes::new()), 3).await;
        });
    }
}
