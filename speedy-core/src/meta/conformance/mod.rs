//! What every [`MetaStore`] must do, as tests that any implementation can run.
//!
//! ```
//! # use std::sync::Arc;
//! # use speedy_core::meta::{MemoryMeta, MetaStore, conformance};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
//! conformance::run_all(|| async { Arc::new(MemoryMeta::new()) as Arc<dyn MetaStore> })
//! # );
//! ```

#![allow(clippy::unwrap_used, reason = "a suite of tests stops at the first surprise")]

mod concurrency;
mod limits;
mod reads;
mod transactions;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::meta::{Entry, KeyRange, MetaStore, Outcome, Transaction, Version, Write};

type Store = Arc<dyn MetaStore>;
type Case = (&'static str, fn(Store) -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($case)), |store| $module::$case(store).boxed())),*]
    };
}

const CASES: &[Case] = cases![
    reads::an_absent_key_has_no_entry,
    reads::keys_are_answered_in_the_order_asked,
    reads::values_of_all_sizes_come_back,
    reads::a_scan_is_in_bytewise_order,
    reads::a_scan_stops_at_its_bounds,
    reads::a_prefix_of_0xff_has_no_end,
    reads::pages_join_without_gap_or_repetition,
    reads::a_page_of_large_values_ends_early,
    reads::the_clock_never_goes_back,
    limits::keys_at_the_limit_are_taken_and_beyond_it_refused,
    limits::values_at_the_limit_are_taken_and_beyond_it_refused,
    limits::operations_at_the_limit_are_taken_and_beyond_it_refused,
    limits::bytes_at_the_limit_are_taken_and_beyond_it_refused,
    limits::pages_and_reads_are_limited,
    limits::a_key_written_twice_is_refused,
    transactions::versions_rise_with_every_commit,
    transactions::a_key_written_again_after_its_deletion_has_a_higher_version,
    transactions::all_writes_of_a_commit_have_its_version,
    transactions::absent_holds_for_absent_keys_only,
    transactions::version_holds_for_that_version_only,
    transactions::range_empty_holds_for_empty_ranges_only,
    transactions::the_first_failing_check_is_named,
    transactions::a_conflict_leaves_no_trace,
    transactions::checks_see_the_state_before_the_writes,
    transactions::a_repeated_transaction_is_applied_once,
    transactions::an_id_is_free_again_after_a_conflict,
    transactions::an_empty_transaction_is_a_commit,
    transactions::relaxed_writes_are_seen_at_once,
    concurrency::increments_by_compare_and_set_lose_nothing,
    concurrency::one_of_many_creators_wins,
    concurrency::a_range_is_not_both_found_empty_and_filled,
    concurrency::a_transfer_is_never_seen_half_done,
    concurrency::a_transaction_sent_many_times_at_once_is_applied_once,
];

/// Runs every case, each on a fresh and empty store that `factory` makes.
///
/// # Panics
/// At the first case that fails, with its name.
pub async fn run_all<F, Made>(factory: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Store>,
{
    for (name, case) in CASES {
        let store = factory().await;
        if let Err(panic) = AssertUnwindSafe(case(store)).catch_unwind().await {
            let reason = panic.downcast_ref::<String>().map(String::as_str);
            let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("see above");
            panic!("metadata conformance, case {name}: {reason}");
        }
    }
}

fn key(text: impl Into<Bytes>) -> Bytes {
    text.into()
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Transaction {
    Transaction::new().write(Write::Put(key.into(), value.into()))
}

async fn commit(store: &Store, transaction: Transaction) -> Version {
    match store.transact(transaction).await.unwrap() {
        Outcome::Committed(version) => version,
        Outcome::Conflict(position) => panic!("check {position} was expected to hold"),
    }
}

async fn get(store: &Store, key: impl Into<Bytes>) -> Option<Entry> {
    store.get(key.into()).await.unwrap()
}

async fn keys(store: &Store, range: KeyRange) -> Vec<Bytes> {
    let page = store.scan(range, 1000).await.unwrap();
    assert_eq!(page.next, None, "a short scan ends in one page");
    page.entries.into_iter().map(|entry| entry.key).collect()
}
