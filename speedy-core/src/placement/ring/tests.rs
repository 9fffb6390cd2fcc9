use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::BlobId;

fn ring(groups: &[(u32, u32)]) -> Ring {
    Ring::new(groups.iter().map(|&(id, weight)| (GroupId::new(id), weight))).unwrap()
}

/// Positions that are spread evenly, so that a share is that of the ring and not of the sample.
fn positions(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| i * (u64::MAX / count))
}

fn shares(ring: &Ring) -> BTreeMap<u32, f64> {
    let count = 40_000;
    let mut shares = BTreeMap::new();
    for position in positions(count) {
        *shares.entry(ring.choose(position).unwrap().get()).or_default() += 1.0 / count as f64;
    }
    shares
}

/// The encoding is a contract: a program that reimplements the ring must choose as this one does. The values come
/// from an implementation in another language, written from the documentation, and never change.
#[test]
fn golden_vectors() {
    assert_eq!(point(GroupId::new(1), 0), 0x1669dec6967d1424);
    assert_eq!(point(GroupId::new(1), 1), 0x8c6a19a18027ca43);
    assert_eq!(point(GroupId::new(7), 511), 0x3fb5de669829d0e9);
    let owner = |byte, offset| Owner { blob: BlobId::from_bytes([byte; 16]), offset };
    let three = ring(&[(1, 1), (2, 1), (3, 1)]);
    let weighted = ring(&[(1, 1), (2, 2), (5, 4)]);
    let table = [
        (owner(0x00, 0x0), 0x743df94ee4c78a2a, [3, 2, 1], [5, 2, 1]),
        (owner(0x00, 0x400000), 0x192fd79eeb4bcee6, [1, 3, 2], [1, 5, 2]),
        (owner(0x00, 0x800000), 0x70d4fa2cbbd4af68, [3, 1, 2], [5, 1, 2]),
        (owner(0x01, 0x0), 0xa47f7db1990e9f0b, [2, 1, 3], [5, 2, 1]),
        (owner(0xab, 0x0), 0x070c598946846fee, [3, 2, 1], [5, 2, 1]),
        (owner(0xab, 0x1), 0x7ae912491ff64513, [3, 2, 1], [5, 2, 1]),
        (owner(0xff, u64::MAX), 0x76fef599e99b44d6, [2, 1, 3], [2, 5, 1]),
        (owner(0x42, 123_456_789), 0x911628292dff6db9, [2, 1, 3], [2, 1, 5]),
    ];
    for (owner, position, even, uneven) in table {
        assert_eq!(Ring::position(owner), position, "{owner:?}");
        let order = |ring: &Ring| ring.successors(position).map(GroupId::get).collect::<Vec<_>>();
        assert_eq!(order(&three), even, "{owner:?}");
        assert_eq!(order(&weighted), uneven, "{owner:?}");
    }
}

#[test]
fn an_empty_ring_chooses_nothing() {
    assert_eq!(ring(&[]).choose(5), None);
    let idle = ring(&[(1, 0)]);
    assert!(idle.is_empty());
    assert_eq!(idle.successors(5).count(), 0);
}

#[test]
fn bad_weights_are_refused() {
    let group = GroupId::new(4);
    let weight = Ring::MAX_WEIGHT + 1;
    assert_eq!(Ring::new([(group, weight)]), Err(RingError::Weight { group, weight }));
    assert_eq!(Ring::new([(group, 1), (group, 2)]), Err(RingError::Twice(group)));
}

#[test]
fn the_order_of_the_groups_does_not_matter() {
    assert_eq!(ring(&[(3, 1), (1, 2), (2, 1)]), ring(&[(1, 2), (2, 1), (3, 1)]));
}

#[test]
fn positions_beyond_the_last_point_wrap_to_the_first() {
    let ring = ring(&[(1, 1), (2, 1)]);
    let (first, last) = (ring.points[0], ring.points[ring.points.len() - 1]);
    assert_eq!(ring.choose(first.at), Some(first.group));
    assert_eq!(ring.choose(last.at), Some(last.group));
    assert_eq!(ring.choose(last.at + 1), Some(first.group));
}

#[test]
fn equal_groups_get_equal_shares() {
    for groups in 2..=50 {
        let even = 1.0 / f64::from(groups);
        let weights: Vec<_> = (1..=groups).map(|id| (id, 1)).collect();
        for (id, share) in shares(&ring(&weights)) {
            let bound = if groups == 30 { 0.085 } else { 0.15 };
            assert!((share / even - 1.0).abs() < bound, "group {id} of {groups} has {share:.4}");
        }
    }
}

fn weights() -> impl Strategy<Value = BTreeMap<u32, u32>> {
    prop::collection::btree_map(0..10_000u32, 1..8u32, 1..12)
}

fn of(weights: &BTreeMap<u32, u32>) -> Ring {
    Ring::new(weights.iter().map(|(&id, &weight)| (GroupId::new(id), weight))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shares_follow_weights(weights in weights()) {
        let total: u32 = weights.values().sum();
        let shares = shares(&of(&weights));
        for (id, weight) in &weights {
            let fair = f64::from(*weight) / f64::from(total);
            let share = shares[id];
            prop_assert!((share / fair - 1.0).abs() < 0.25, "group {} has {} for {}", id, share, fair);
        }
    }

    #[test]
    fn a_group_that_joins_takes_its_share_and_moves_nothing_else(
        weights in weights(), id in 10_000..20_000u32, weight in 1..8u32,
    ) {
        let before = of(&weights);
        let mut joined = weights.clone();
        joined.insert(id, weight);
        let after = of(&joined);
        let count = 20_000;
        let mut moved = 0;
        for position in positions(count) {
            let (old, new) = (before.choose(position), after.choose(position));
            if old != new {
                prop_assert_eq!(new, Some(GroupId::new(id)), "a key moved between groups that stayed");
                moved += 1;
            }
        }
        let fair = f64::from(weight) / f64::from(joined.values().sum::<u32>());
        let share = f64::from(moved) / count as f64;
        prop_assert!((share / fair - 1.0).abs() < 0.25, "{} of the keys moved for a share of {}", share, fair);
    }

    #[test]
    fn the_keys_of_a_group_that_leaves_go_to_their_successors(weights in weights(), leaves in any::<prop::sample::Index>()) {
        let before = of(&weights);
        let gone = *leaves.get(&weights.keys().copied().collect::<Vec<_>>());
        let mut left = weights.clone();
        left.remove(&gone);
        let after = of(&left);
        for position in positions(2_000) {
            let order: Vec<_> = before.successors(position).collect();
            prop_assert_eq!(order.len(), weights.len());
            let expected: Vec<_> = order.into_iter().filter(|group| group.get() != gone).collect();
            prop_assert_eq!(after.successors(position).collect::<Vec<_>>(), expected);
        }
    }
}
