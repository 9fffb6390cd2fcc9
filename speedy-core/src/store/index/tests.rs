use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn entry(what: u8, offset: u64) -> Entry {
    let offset = 8192 + offset * 4096;
    match what % 4 {
        0 => Entry::tombstone(1, offset),
        1 => Entry::quarantined(1, offset, 300_000),
        2 => Entry::chunk(1, offset, offset / 8 % 1000 + 1),
        _ => Entry::chunk(2, offset, 300_000),
    }
}

fn expected_usage(model: &BTreeMap<u64, Entry>, volume: u32) -> VolumeUsage {
    let mut usage = VolumeUsage::default();
    model.values().filter(|entry| entry.volume == volume).for_each(|entry| usage.add(*entry));
    usage
}

fn check(index: &Index, model: &BTreeMap<u64, Entry>) {
    let all: Vec<(ChunkId, Entry)> = model.iter().map(|(&id, &entry)| (ChunkId::new(id), entry)).collect();
    for limit in [1, 7, 100, usize::MAX] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = index.page(after, limit);
            assert!(page.len() <= limit && (!more || page.len() == limit));
            after = page.last().map(|&(id, _)| id).or(after);
            paged.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(paged, all);
    }
    let live: Vec<_> = all.iter().filter(|(_, entry)| entry.is_chunk()).copied().collect();
    assert_eq!(index.list(None, usize::MAX), (live.clone(), false));
    assert_eq!(index.list(None, live.len()), (live, false));
    assert_eq!(index.highest(), model.keys().last().map(|&id| ChunkId::new(id)));
    for volume in [1, 2] {
        assert_eq!(index.usage_of(volume), expected_usage(model, volume));
        let mut of_volume: Vec<_> = all.iter().filter(|(_, entry)| entry.volume == volume).copied().collect();
        of_volume.sort_by_key(|(_, entry)| entry.offset());
        let offsets =
            |entries: &[(ChunkId, Entry)]| entries.iter().map(|(_, e)| e.offset()).collect::<Vec<_>>();
        assert_eq!(offsets(&index.entries_of(volume)), offsets(&of_volume));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_inserts_and_replacements_answer_as_a_plain_map_does(
        steps in prop::collection::vec((0..3000_u64, any::<u8>(), 0..1000_u64, any::<bool>()), 0..4000),
        ascending in any::<bool>(),
    ) {
        let (index, mut model) = (Index::default(), BTreeMap::new());
        for (number, (id, what, offset, replaces)) in steps.into_iter().enumerate() {
            // Rising, with a jitter, as ids are handed out; or at random.
            let id = if ascending { number as u64 * 2 + id % 16 } else { id };
            let new = entry(what, offset);
            if replaces {
                let old = entry(what.wrapping_add(1), offset);
                let is_old = model.get(&id) == Some(&old);
                prop_assert_eq!(index.replace(ChunkId::new(id), old, new), is_old);
                if !is_old {
                    continue;
                }
            } else {
                index.insert(ChunkId::new(id), new);
            }
            model.insert(id, new);
            prop_assert_eq!(index.get(ChunkId::new(id)), Some(new));
            prop_assert_eq!(index.get(ChunkId::new(id + 1)), model.get(&(id + 1)).copied());
        }
        check(&index, &model);

        // What a checkpoint brings back is the same.
        let rows = index.page(None, usize::MAX).0;
        let loaded = Index::default();
        loaded.load(rows.iter().map(|&(id, entry)| Row::new(id, entry)));
        check(&loaded, &model);
    }
}

/// Bytes that the leaves of an index have allocated, by the chunk.
fn bytes_a_chunk(index: &Index, chunks: u64) -> f64 {
    let bytes: usize = index.shards.iter().map(|shard| shard.read().allocated()).sum();
    bytes as f64 / chunks as f64
}

#[test]
fn a_chunk_takes_little_more_than_its_row_in_whatever_order_ids_come() {
    const CHUNKS: u64 = 400_000;
    type Order = fn(u64) -> u64;
    let orders: [(&str, Order); 5] = [
        ("rising", |n| n),
        ("rising with a jitter of 64 writers", |n| n ^ (n * 7 % 64)),
        ("two ranges of 1024 at a time", |n| n / 2048 * 2048 + n % 2 * 1024 + n % 2048 / 2),
        ("seven ranges of 100 at a time", |n| n / 700 * 700 + n % 7 * 100 + n % 700 / 7),
        ("random", |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    ];
    for (name, id) in orders {
        let index = Index::default();
        (0..CHUNKS).for_each(|n| index.insert(ChunkId::new(id(n)), Entry::chunk(1, 8192 + n * 8, 1)));
        let bytes = bytes_a_chunk(&index, index.usage().chunks);
        assert!((20.0..24.0).contains(&bytes), "{name}: {bytes} bytes");
    }
}

#[test]
fn readers_beside_a_writer_see_whole_entries() {
    let index = Index::default();
    let entries = [Entry::chunk(1, 8192, 5), Entry::chunk(2, 16384, 300_000)];
    index.insert(ChunkId::new(0), entries[0]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 0..20_000 {
                    let entry = index.get(ChunkId::new(0)).unwrap();
                    assert!(entries.contains(&entry), "{entry:?}");
                    if n % 1000 == 0 {
                        let (page, _) = index.page(None, 500);
                        assert!(page.is_sorted_by_key(|(id, _)| *id), "{page:?}");
                    }
                }
            });
        }
        for n in 0..20_000_u64 {
            index.insert(ChunkId::new(0), entries[(n % 2) as usize]);
            index.insert(ChunkId::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), entries[0]);
        }
    });
}
