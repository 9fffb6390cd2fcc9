use bytes::Bytes;
use speedy_core::checksum::BLOCK_SIZE;
use speedy_core::replicate::Blocks;
use speedy_proto::chunk::v1 as proto;

use super::MAX_RUN;

/// Blocks in the longest run that one message carries.
const RUN_BLOCKS: usize = MAX_RUN / BLOCK_SIZE;

/// The messages that carry a run of blocks: one, or several where it is long. The bytes are shared, not copied.
pub(crate) fn blocks_to_wire(blocks: Blocks) -> impl Iterator<Item = proto::Blocks> + Send {
    let (offset, mut data, checksums) = blocks.into_wire();
    let mut checksums = checksums.into_iter();
    let mut sent = 0;
    std::iter::from_fn(move || {
        let run: Vec<u32> = checksums.by_ref().take(RUN_BLOCKS).collect();
        let bytes: Bytes = data.split_to(data.len().min(MAX_RUN));
        let at = offset + sent;
        sent += bytes.len() as u64;
        (!bytes.is_empty()).then_some(proto::Blocks { offset: at, data: bytes, checksums: run })
    })
}

/// The blocks of a message, not yet verified; `None` where they are no whole blocks.
pub(crate) fn blocks_from_wire(message: proto::Blocks) -> Option<Blocks> {
    Blocks::unverified(message.offset, message.data, message.checksums)
}

#[cfg(test)]
mod tests {
    use speedy_core::checksum::crc32c;

    use super::*;

    fn cross(length: usize) -> Vec<usize> {
        let data: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let checksums: Vec<u32> = data.chunks(BLOCK_SIZE).map(crc32c).collect();
        let start = 3 * BLOCK_SIZE as u64;
        let mut lengths = Vec::new();
        let mut received = Vec::new();
        for message in blocks_to_wire(Blocks::verified(start, data.clone().into(), checksums)) {
            let blocks = blocks_from_wire(message).unwrap();
            assert_eq!(blocks.offset(), start + received.len() as u64);
            lengths.push(blocks.len());
            received.extend_from_slice(&blocks.into_bytes().unwrap());
        }
        assert_eq!(received, data);
        lengths
    }

    #[test]
    fn runs_are_cut_at_blocks_and_keep_their_checksums() {
        assert_eq!(cross(1), [1]);
        assert_eq!(cross(MAX_RUN), [MAX_RUN]);
        assert_eq!(cross(2 * MAX_RUN + 5), [MAX_RUN, MAX_RUN, 5]);
    }

    #[test]
    fn a_message_of_no_whole_blocks_is_refused() {
        let message = proto::Blocks { offset: 1, data: Bytes::from_static(b"x"), checksums: vec![1] };
        assert!(blocks_from_wire(message).is_none());
    }
}
