use bytes::{Buf, BufMut};

use super::head::{HEAD_LEN, take_16};
use super::{FIRST_RECORD, Head, PAGE, Superblock};
use crate::checksum::crc32c;
use crate::id::DirectoryId;

/// Directories of one store at most. What the list has room for beyond them remembers directories that are gone.
pub(in crate::store) const MAX_DIRECTORIES: usize = 200;

const CRC_AT: usize = PAGE as usize - 4;

/// Ids in a list: what fits between its counts and its CRC.
const ROOM: usize = (CRC_AT - HEAD_LEN - 8) / 16;

/// What a directory knows of the others of its store. It stands behind the head of the superblock, in both copies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::store) struct Siblings {
    /// All directories of the store, this one among them.
    pub(in crate::store) members: Vec<DirectoryId>,
    /// Directories that were given up, the one given up last at the end.
    pub(in crate::store) forgotten: Vec<DirectoryId>,
}

impl Siblings {
    /// Puts the members in order, so that all directories keep the same list byte by byte; and lets the oldest of
    /// those given up go where not all fit.
    pub(in crate::store) fn settle(&mut self) {
        self.members.sort_unstable();
        let too_many = (self.members.len() + self.forgotten.len()).saturating_sub(ROOM);
        self.forgotten.drain(..too_many.min(self.forgotten.len()));
    }

    /// The `STORE` file of a directory with this head and list, which must be settled.
    pub(in crate::store) fn encode_behind(&self, superblock: &Superblock) -> Vec<u8> {
        let Self { members, forgotten } = self;
        debug_assert!(members.len() <= MAX_DIRECTORIES && members.len() + forgotten.len() <= ROOM);
        let mut page = superblock.encode();
        page.truncate(PAGE as usize);
        let mut out = &mut page[HEAD_LEN..CRC_AT];
        out.put_u32_le(members.len() as u32);
        out.put_u32_le(forgotten.len() as u32);
        for id in members.iter().chain(forgotten) {
            out.put_slice(id.as_bytes());
        }
        let crc = crc32c(&page[..CRC_AT]);
        page[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        page.repeat((FIRST_RECORD / PAGE) as usize)
    }

    /// Reads the list from a `STORE` file; `None` where neither copy is whole.
    pub(in crate::store) fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.chunks_exact(PAGE as usize).take((FIRST_RECORD / PAGE) as usize).find_map(Self::decode_copy)
    }

    fn decode_copy(page: &[u8]) -> Option<Self> {
        let (fields, mut crc) = page.split_at(CRC_AT);
        if crc.get_u32_le() != crc32c(fields) {
            return None;
        }
        let mut fields = &fields[HEAD_LEN..];
        let (members, forgotten) = (fields.get_u32_le() as usize, fields.get_u32_le() as usize);
        // One after the other, so that no sum of two wild counts wraps around.
        if members > MAX_DIRECTORIES || forgotten > ROOM - members {
            return None;
        }
        let mut ids = |count| (0..count).map(|_| DirectoryId::from_bytes(take_16(&mut fields))).collect();
        Some(Self { members: ids(members), forgotten: ids(forgotten) })
    }
}

const _: () = assert!(ROOM == 247 && MAX_DIRECTORIES < ROOM);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{NodeId, StoreId};

    fn superblock() -> Superblock {
        Superblock {
            store: StoreId::from_bytes([1; 16]),
            node: NodeId::from_bytes([2; 16]),
            created: 3,
            directory: DirectoryId::from_bytes([4; 16]),
            ordinal: 5,
        }
    }

    fn ids(numbers: std::ops::Range<usize>) -> Vec<DirectoryId> {
        numbers.map(|n| DirectoryId::from_bytes([n as u8; 16])).collect()
    }

    #[test]
    fn head_and_list_stand_in_one_file_and_the_oldest_of_those_given_up_gives_way() {
        for (members, forgotten) in [(1, 0), (1, 246), (200, 47), (200, 60)] {
            let mut list = Siblings { members: ids(0..members), forgotten: ids(0..forgotten) };
            list.settle();
            let file = list.encode_behind(&superblock());
            assert_eq!(file.len(), FIRST_RECORD as usize);
            assert_eq!(Superblock::decode(&file), Ok(superblock()));
            let read = Siblings::decode(&file).unwrap();
            assert_eq!(read.members, list.members);
            let kept = forgotten.min(ROOM - members);
            assert_eq!(read.forgotten, ids(forgotten - kept..forgotten));
        }
    }

    #[test]
    fn a_list_that_counts_more_than_it_has_room_for_is_refused() {
        for counts in [[201, 0], [200, 48], [u32::MAX, 1], [1, u32::MAX]] {
            let mut file = Siblings::default().encode_behind(&superblock());
            for page in file.chunks_mut(PAGE as usize) {
                page[HEAD_LEN..HEAD_LEN + 4].copy_from_slice(&counts[0].to_le_bytes());
                page[HEAD_LEN + 4..HEAD_LEN + 8].copy_from_slice(&counts[1].to_le_bytes());
                let crc = crc32c(&page[..CRC_AT]);
                page[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            }
            assert_eq!(Siblings::decode(&file), None);
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_costs_one_copy(at in 0..FIRST_RECORD as usize * 8, second in 0..PAGE as usize * 8) {
            let list = Siblings { members: ids(0..9), forgotten: ids(20..23) };
            let mut file = list.encode_behind(&superblock());
            file[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(Siblings::decode(&file), Some(list));
            let other = if at / 8 < PAGE as usize { PAGE as usize } else { 0 };
            file[other + second / 8] ^= 1 << (second % 8);
            prop_assert_eq!(Siblings::decode(&file), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            Siblings::decode(&bytes);
        }
    }
}
