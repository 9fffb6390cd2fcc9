//! What format version 1 writes is frozen: decoded and encoded again, every part of the golden files is the same bytes.
//! That they can be read, and by others too, is tested in `tests/golden/`.

use std::collections::HashMap;
use std::path::Path;

use super::super::disk::{Disk, RealSite, Site};
use super::super::format::{
    FIRST_RECORD, Footer, Geometry, HEADER_LEN, Head, RecordHeader, ScrubState, Seed, Siblings, Superblock,
    VolumeHeader, footer_len, write_footer,
};
use super::*;

fn golden() -> [std::path::PathBuf; 2] {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    [dir.join("a"), dir.join("b")]
}

#[test]
fn heads_are_encoded_to_the_same_bytes() {
    for dir in golden() {
        let file = std::fs::read(dir.join("STORE")).unwrap();
        let (superblock, siblings) = (Superblock::decode(&file).unwrap(), Siblings::decode(&file).unwrap());
        assert!(siblings.encode_behind(&superblock) == file);
    }
    let file = std::fs::read(golden()[0].join("SCRUB")).unwrap();
    assert!(ScrubState::decode(&file).unwrap().encode() == file);
}

#[test]
fn records_are_encoded_to_the_same_bytes() {
    let mut records = 0;
    for entry in golden().iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "volume") {
            continue;
        }
        let file = std::fs::read(&path).unwrap();
        let head = VolumeHeader::decode(&file).unwrap();
        assert!(head.encode() == file[..FIRST_RECORD as usize]);
        let mut at = FIRST_RECORD;
        while at < file.len() as u64 {
            let seed = Seed { volume: head.identity, offset: at };
            let bytes = &file[at as usize..][..HEADER_LEN];
            let header = RecordHeader::decode(bytes, seed).unwrap();
            assert!(header.encode(seed) == bytes);
            let geometry = Geometry::new(head.kind, at, header.body_len());
            let footer = file.get(geometry.footer as usize..).unwrap_or_default();
            if header.body_len() > 0 && footer.len() >= footer_len(header.length) as usize {
                let bytes = &footer[..footer_len(header.length) as usize];
                let crc = RecordHeader::crc_of(bytes_of(&file, at));
                let footer = Footer::decode(bytes, header.length, crc, seed).unwrap();
                let mut again = Vec::new();
                write_footer(&mut again, &footer.blocks, footer.checksum, crc, seed);
                assert!(again == bytes);
            }
            records += 1;
            at = geometry.end;
        }
    }
    assert_eq!(records, 17);
}

fn bytes_of(file: &[u8], at: u64) -> &[u8; HEADER_LEN] {
    file[at as usize..].first_chunk().unwrap()
}

#[test]
fn a_checkpoint_is_encoded_to_the_same_bytes() {
    for dir in golden() {
        let (mut unused, expected) = (Vec::new(), std::fs::read(dir.join("CHECKPOINT")).unwrap());
        let disk = RealSite(dir.clone()).peek().unwrap();
        let store = Superblock::decode(&std::fs::read(dir.join("STORE")).unwrap()).unwrap().store;
        let loaded = super::super::checkpoint::load(&*disk, store, &|_| None, &mut unused).unwrap();
        let index = Index::default();
        for row in loaded.rows() {
            index.insert(ChunkId::new(row.id()), row.entry());
        }
        let mut covered: Vec<_> = HashMap::clone(&loaded.covered).into_values().collect();
        covered.sort_unstable_by_key(|covered| covered.number);
        let target = SimulatedDisk::new();
        let disk: &dyn Disk = &target;
        super::super::checkpoint::write(disk, store, &covered, loaded.highest_sequence, &index).unwrap();
        let mut written = target.content("CHECKPOINT");
        // When it was made is in the heads, under their checksums.
        for page in [0, 4096] {
            for range in [28..36, 124..128] {
                written[page + range.start..page + range.end]
                    .copy_from_slice(&expected[page + range.start..page + range.end]);
            }
        }
        assert!(written == expected);
    }
}
