//! A second implementation of what `docs/format.md` says, written from that page alone: it reads the volumes, the
//! superblock, the scrub's state and the checkpoint of a directory, and compares every checksum on the way.

use std::collections::BTreeMap;
use std::path::Path;

/// CRC-32C, bit by bit.
fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = !0_u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn hex_at(bytes: &[u8], at: usize) -> String {
    bytes[at..at + 16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Both copies of a head of this magic, which must be whole and the same; `all` says whether nothing follows the fields
/// in their pages.
fn head<'a>(file: &'a [u8], magic: &str, all: bool) -> &'a [u8] {
    let (first, second) = (&file[..4096], &file[4096..8192]);
    assert_eq!(first, second);
    assert_eq!((&first[..8], u32_at(first, 8)), (magic.as_bytes(), 1));
    assert_eq!(u32_at(first, 124), crc(&[&first[..124]]));
    assert!(!all || first[128..].iter().all(|&byte| byte == 0));
    first
}

pub(crate) struct Superblock {
    pub(crate) store: String,
    pub(crate) node: String,
    pub(crate) directory: String,
    pub(crate) ordinal: u8,
    pub(crate) members: Vec<String>,
}

pub(crate) fn superblock(dir: &Path) -> Superblock {
    let file = std::fs::read(dir.join("STORE")).unwrap();
    let page = head(&file, "SPEEDYST", false);
    assert_eq!(u32_at(page, 4092), crc(&[&page[..4092]]));
    let (members, forgotten) = (u32_at(page, 128) as usize, u32_at(page, 132) as usize);
    assert_eq!(forgotten, 0);
    assert!(page[136 + 16 * members..4092].iter().all(|&byte| byte == 0));
    Superblock {
        store: hex_at(page, 12),
        node: hex_at(page, 28),
        directory: hex_at(page, 52),
        ordinal: page[68],
        members: (0..members).map(|index| hex_at(page, 136 + 16 * index)).collect(),
    }
}

/// A record; what it has not is 0 or empty.
#[derive(PartialEq, Debug, Default)]
pub(crate) struct Record {
    pub(crate) volume: u32,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) kind: &'static str,
    pub(crate) id: u64,
    pub(crate) blob: String,
    pub(crate) blob_offset: u64,
    pub(crate) length: u64,
    pub(crate) version: u64,
    pub(crate) sequence: u64,
    pub(crate) created: u64,
    /// Of a chunk whose footer is there.
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Volume {
    pub(crate) number: u32,
    pub(crate) store: String,
    pub(crate) identity: Vec<u8>,
    pub(crate) records: Vec<Record>,
}

/// All volumes of a directory by their numbers.
pub(crate) fn volumes(dir: &Path) -> BTreeMap<u32, Volume> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some((name.strip_suffix(".volume")?.parse().unwrap(), name)))
        .map(|(number, name)| (number, volume(number, &std::fs::read(dir.join(name)).unwrap())))
        .collect()
}

fn volume(number: u32, file: &[u8]) -> Volume {
    let head = head(file, "SPEEDYVL", true);
    assert_eq!((u32_at(head, 48), u32_at(head, 52)), (number, 65_536));
    let align = match u32_at(head, 12) {
        1 => 8,
        2 => 4096,
        other => panic!("kind {other}"),
    };
    let identity = head[16..32].to_vec();
    let mut records = Vec::new();
    let mut at = 8192;
    while at < file.len() {
        let mut record = record(&identity, align, &file[at..], at);
        record.volume = number;
        at += record.size as usize;
        records.push(record);
    }
    Volume { number, store: hex_at(head, 32), identity, records }
}

/// The record whose bytes begin here.
fn record(identity: &[u8], align: usize, bytes: &[u8], offset: usize) -> Record {
    let seeded = |part: &[u8]| crc(&[identity, &(offset as u64).to_le_bytes(), part]);
    let header = &bytes[..80];
    assert_eq!(&header[..4], b"SPRC");
    assert_eq!(u32_at(header, 76), seeded(&header[..76]), "the header at {offset}");
    let length = u64_at(header, 40);
    let mut record = Record {
        offset: offset as u64,
        size: 80_usize.next_multiple_of(align) as u64,
        kind: match (header[4], header[5]) {
            (1, 0) => "chunk",
            (2, 0) => "tombstone",
            (3, 0) => "mark",
            (3, 1) => "final mark",
            (4, 0) => "quarantined",
            other => panic!("kind and flags {other:?}"),
        },
        id: u64_at(header, 8),
        blob: hex_at(header, 16),
        blob_offset: u64_at(header, 32),
        length,
        version: u64_at(header, 48),
        sequence: u64_at(header, 56),
        created: u64_at(header, 64),
        ..Record::default()
    };
    if record.kind != "chunk" {
        return record;
    }
    let body = record.size as usize;
    let footer = (body + length as usize).next_multiple_of(8);
    let blocks = (length as usize).div_ceil(65_536);
    let footer_len = 4 * blocks + 16;
    record.size = (footer + footer_len).next_multiple_of(align) as u64;
    // A volume may end before the room of a write that was cut off.
    let absent =
        bytes.len() < footer + footer_len || bytes[footer..footer + footer_len].iter().all(|&b| b == 0);
    if absent {
        record.kind = "unfinished";
        return record;
    }
    record.body = bytes[body..body + length as usize].to_vec();
    let footer = &bytes[footer..footer + footer_len];
    for (index, block) in record.body.chunks(65_536).enumerate() {
        assert_eq!(u32_at(footer, 4 * index), crc(&[block]));
    }
    let rest = 4 * blocks;
    assert_eq!(u32_at(footer, rest), crc(&[&record.body]));
    assert_eq!(u32_at(footer, rest + 4), u32_at(header, 76));
    assert_eq!(&footer[rest + 8..rest + 12], b"SPFT");
    assert_eq!(u32_at(footer, rest + 12), seeded(&footer[..rest + 12]));
    record
}

/// Time, records, bytes and damaged chunks of a pass of the scrub, and when it ended.
pub(crate) struct Scrub {
    pub(crate) store: String,
    pub(crate) running: [u64; 4],
    pub(crate) last: [u64; 4],
    pub(crate) completed: u64,
}

pub(crate) fn scrub(dir: &Path) -> Scrub {
    let file = std::fs::read(dir.join("SCRUB")).unwrap();
    let head = head(&file, "SPEEDYSC", true);
    let tally = |at: usize| [0, 8, 16, 24].map(|field| u64_at(head, at + field));
    Scrub { store: hex_at(head, 12), running: tally(40), last: tally(72), completed: u64_at(head, 104) }
}

/// A row of a checkpoint.
#[derive(PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) volume: u32,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) quarantined: bool,
}

pub(crate) struct Checkpoint {
    pub(crate) store: String,
    pub(crate) highest_sequence: u64,
    /// Number, identity, whether the mark is final, and where it ends.
    pub(crate) covered: Vec<(u32, Vec<u8>, bool, u64)>,
    pub(crate) rows: Vec<Row>,
}

pub(crate) fn checkpoint(path: &Path) -> Checkpoint {
    let file = std::fs::read(path).unwrap();
    let head = head(&file, "SPEEDYCP", true);
    let (volumes, rows) = (u64_at(head, 44) as usize, u64_at(head, 52) as usize);
    let body = &file[8192..][..64 * volumes + 20 * rows];
    let footer = &file[8192 + body.len()..];
    let blocks = body.len().div_ceil(65_536);
    assert_eq!(footer.len(), 4 * blocks + 32);
    for (index, block) in body.chunks(65_536).enumerate() {
        assert_eq!(u32_at(footer, 4 * index), crc(&[block]));
    }
    let rest = 4 * blocks;
    assert_eq!(u64_at(footer, rest), body.len() as u64);
    assert_eq!(hex_at(footer, rest + 8), hex_at(head, 12));
    assert_eq!(&footer[rest + 24..rest + 28], b"SPCF");
    assert_eq!(u32_at(footer, rest + 28), crc(&[&footer[..rest + 28]]));
    let (table, index) = body.split_at(64 * volumes);
    let covered = table
        .chunks(64)
        .map(|row| (u32_at(row, 0), row[8..24].to_vec(), u32_at(row, 4) == 1, u64_at(row, 24)));
    let rows = index.chunks(20).map(|row| {
        let length = u32_at(row, 16);
        Row {
            id: u64_at(row, 0),
            volume: u32_at(row, 8),
            offset: u64::from(u32_at(row, 12)) * 8,
            length: u64::from(length & 0x07ff_ffff),
            quarantined: length >> 31 == 1,
        }
    });
    Checkpoint {
        store: hex_at(head, 12),
        highest_sequence: u64_at(head, 36),
        covered: covered.collect(),
        rows: rows.collect(),
    }
}
