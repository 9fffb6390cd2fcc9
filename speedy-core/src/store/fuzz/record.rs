use super::super::MAX_CHUNK_LEN;
use super::super::format::{
    FIRST_RECORD, Footer, HEADER_LEN, Head, HeadError, RecordHeader, Seed, Superblock, VolumeHeader,
    footer_len, write_footer,
};

/// Headers, footers and heads out of any bytes: what is accepted is encoded to the same bytes again, and a change of any
/// bit is noticed.
pub fn record(data: &[u8]) {
    let Some((offset, rest)) = data.split_first_chunk::<8>() else { return };
    let seed = Seed { volume: [0x5a; 16], offset: u64::from_le_bytes(*offset) };
    // A fuzzer may well find bytes with the right checksum, for here it knows the seed.
    if let Some(header) = RecordHeader::decode(rest, seed) {
        assert_eq!(RecordHeader::decode(&header.encode(seed), seed), Some(header));
    }
    for length in [1, 4096, 65_537, MAX_CHUNK_LEN] {
        if let Some(Footer { blocks, checksum }) = Footer::decode(rest, length, 7, seed) {
            let mut again = Vec::new();
            write_footer(&mut again, &blocks, checksum, 7, seed);
            assert_eq!(Footer::decode(&again, length, 7, seed), Some(Footer { blocks, checksum }));
        }
    }
    let _ = (Superblock::decode(rest), VolumeHeader::decode(rest));
    forged_header(rest, seed);
    forged_footer(rest, seed);
    forged_head(rest);
}

/// The bytes as a header whose CRC is right.
fn forged_header(data: &[u8], seed: Seed) {
    let Some(bytes) = data.first_chunk::<{ HEADER_LEN }>() else { return };
    let mut bytes = *bytes;
    bytes[..4].copy_from_slice(b"SPRC");
    bytes[4] %= 5;
    bytes[5] %= 2;
    let end = bytes.len() - 4;
    let crc = seed.crc(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    let Some(header) = RecordHeader::decode(&bytes, seed) else { return };
    assert!(header.length <= MAX_CHUNK_LEN);
    let again = header.encode(seed);
    assert_eq!(RecordHeader::decode(&again, seed), Some(header));
    let bit = usize::from(bytes[8]) % (again.len() * 8);
    let mut damaged = again;
    damaged[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(RecordHeader::decode(&damaged, seed), None, "bit {bit} may flip unnoticed");
}

fn forged_footer(data: &[u8], seed: Seed) {
    let Some((&[a, b], rest)) = data.split_first_chunk::<2>() else { return };
    let length = u64::from(u16::from_le_bytes([a, b])) * 64 + 1;
    let blocks = crate::checksum::block_count(length) as usize;
    let blocks: Vec<u32> =
        rest.chunks_exact(4).take(blocks).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    if blocks.len() as u64 != crate::checksum::block_count(length) {
        return;
    }
    let mut bytes = Vec::new();
    write_footer(&mut bytes, &blocks, 17, 7, seed);
    assert_eq!(bytes.len() as u64, footer_len(length));
    let footer = Footer { blocks, checksum: 17 };
    assert_eq!(Footer::decode(&bytes, length, 7, seed), Some(footer));
    assert_eq!(Footer::decode(&bytes, length, 8, seed), None, "a footer of another header");
}

/// The bytes as the fields of a head whose CRC is right.
fn forged_head(data: &[u8]) {
    let mut bytes = vec![0; FIRST_RECORD as usize];
    let len = data.len().min(112);
    bytes[..8].copy_from_slice(VolumeHeader::MAGIC);
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    bytes[12..12 + len].copy_from_slice(&data[..len]);
    let crc = crate::checksum::crc32c(&bytes[..124]);
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    match VolumeHeader::decode(&bytes) {
        Ok(header) => assert_eq!(VolumeHeader::decode(&header.encode()), Ok(header)),
        Err(error) => assert_eq!(error, HeadError::Damaged),
    }
}
