//! Chunks written from memory that lies on pages, of which nothing is copied.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::checksum::crc32c;

/// Bytes that begin on a page, or in the middle of one.
fn placed(bytes: &[u8], is_on_page: bool) -> Bytes {
    let skip = if is_on_page { 0 } else { 8 };
    let mut memory = memmap2::MmapMut::map_anon(bytes.len() + skip).unwrap();
    memory[skip..].copy_from_slice(bytes);
    Bytes::from_owner(memory).slice(skip..)
}

fn large_volumes() -> StoreOptions {
    StoreOptions::default().volume_size(16 << 20)
}

fn write_in(writer: &mut ChunkWriter, bytes: &[u8], parts: &[(bool, usize)]) -> Result<(), WriteError> {
    let mut rest = bytes;
    for &(is_on_page, length) in parts.iter().cycle() {
        if rest.is_empty() {
            return Ok(());
        }
        let (part, after) = rest.split_at(length.min(rest.len()));
        writer.write_shared(&placed(part, is_on_page))?;
        rest = after;
    }
    Ok(())
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![Just(4096), Just(64 << 10), Just(1 << 20), 1usize..300_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a chunk comes in, it is the same chunk: what is read, what is there after a restart, and what is
    /// compared with a second writer's.
    #[test]
    fn a_chunk_is_the_same_in_any_parts(
        length in prop_oneof![1usize..300_000, 250_000usize..3_500_000],
        parts in prop::collection::vec((any::<bool>(), lengths()), 1..8),
        other in prop::collection::vec((any::<bool>(), lengths()), 1..8),
        differs in any::<prop::sample::Index>(),
    ) {
        let disk = SimulatedDisk::new();
        let store = ChunkStore::open_on(Box::new(disk.clone()), large_volumes()).unwrap();
        let bytes = content(1, length);
        let mut changed = bytes.clone();
        changed[differs.index(length)] ^= 1;
        let mut writers: Vec<ChunkWriter> =
            (0..3).map(|_| store.begin(new_chunk(1, length)).unwrap()).collect();
        for (writer, (bytes, parts)) in
            writers.iter_mut().zip([(&bytes, &parts), (&bytes, &other), (&changed, &other)])
        {
            write_in(writer, bytes, parts).unwrap();
            prop_assert_eq!(writer.checksum(), crc32c(bytes));
            prop_assert!(get(&store, 1).is_err());
        }
        let mut writers = writers.into_iter();
        let info = writers.next().unwrap().commit().unwrap();
        prop_assert_eq!(writers.next().unwrap().commit().unwrap(), info);
        prop_assert!(matches!(writers.next().unwrap().commit(), Err(WriteError::Conflict(_))));
        prop_assert_eq!(&get(&store, 1).unwrap()[..], &bytes[..]);
        drop(store);
        let store = ChunkStore::open_on(Box::new(disk), large_volumes()).unwrap();
        prop_assert_eq!(&get(&store, 1).unwrap()[..], &bytes[..]);
    }
}

#[test]
fn more_than_was_announced_is_refused_on_pages_too() {
    let store = ChunkStore::open_on(Box::new(SimulatedDisk::new()), large_volumes()).unwrap();
    let bytes = content(1, 1 << 20);
    let mut writer = store.begin(new_chunk(1, bytes.len() - 1)).unwrap();
    let refused = writer.write_shared(&placed(&bytes, true));
    assert!(matches!(refused, Err(WriteError::WrongLength { .. })), "{refused:?}");
    assert!(writer.commit().is_err());
    assert!(get(&store, 1).is_err());
}
