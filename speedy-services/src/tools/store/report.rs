//! What `speedy store` prints with `--json`, and what the admin address of a node answers it: the same JSON.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use speedy_core::store::{
    CheckReport, ChunkStore, CompactionReport, DirectoryInfo, DirectoryState, LostVolume, Progress,
    ReadError, RecordInfo, RecordOf, RecordState, VolumeInfo,
};

/// What a store holds.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Stats {
    /// Names the store for its whole life.
    pub store: String,
    /// Names the node that it belongs to.
    pub node: String,
    /// Chunks that can be read.
    pub chunks: u64,
    /// Bytes of those.
    pub chunk_bytes: u64,
    /// Ids that are spent.
    pub tombstones: u64,
    /// Bytes of all volume files.
    pub volume_bytes: u64,
    /// Bytes of those that compaction would give back.
    pub dead_bytes: u64,
    /// Bytes that the file systems can still take.
    pub free_bytes: u64,
    /// Bytes of the file systems.
    pub total_bytes: u64,
    /// Chunks known to be damaged.
    pub damaged_chunks: u64,
    /// The last complete pass of the scrub.
    pub last_scrub: Option<Scrub>,
    /// Where the store is.
    pub directories: Vec<Directory>,
    /// What it consists of.
    pub volumes: Vec<Volume>,
}

/// A pass of the scrub.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Scrub {
    /// When it ended, in RFC 3339.
    pub completed: String,
    /// Records that were verified.
    pub records: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Chunks that were found damaged.
    pub damaged: u64,
}

/// A directory of a store.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Directory {
    /// Where it is; nobody may know of one that is missing.
    pub path: Option<PathBuf>,
    /// Names it for its whole life.
    pub id: Option<String>,
    /// `healthy`, `failed` or `missing`.
    pub state: String,
    /// What happened to one that failed.
    pub reason: Option<String>,
    /// Volumes that are served from it.
    pub volumes: u64,
    /// Bytes that its file system can still take.
    pub free_bytes: u64,
    /// Bytes of its file system.
    pub total_bytes: u64,
}

/// A volume of a store.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Volume {
    /// Its number.
    pub number: u32,
    /// Its file.
    pub path: PathBuf,
    /// `packed` (chunks under 256 KiB, and tombstones) or `aligned`.
    pub kind: String,
    /// Whether it takes records.
    pub open: bool,
    /// Bytes of its file.
    pub bytes: u64,
    /// Chunks that can be read from it.
    pub chunks: u64,
    /// Bytes of those.
    pub chunk_bytes: u64,
    /// Tombstones in it.
    pub tombstones: u64,
    /// Notes that a chunk is in quarantine.
    pub quarantined: u64,
    /// Bytes that compaction would give back.
    pub dead_bytes: u64,
}

/// What a check has found.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct Check {
    /// Whether nothing was found that may cost data.
    pub sound: bool,
    /// Whether it was ended early.
    pub cancelled: bool,
    /// Volumes that were read.
    pub volumes: u64,
    /// Records that were verified.
    pub records: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Chunks that can't be read whole.
    pub damaged_chunks: u64,
    /// The first 65,536 of them, and what is wrong.
    pub damaged: Vec<Damage>,
    /// Ids of tombstones that can't be read.
    pub damaged_tombstones: Vec<u64>,
    /// Places where no record can be read.
    pub damaged_regions: u64,
    /// Volume files that are not served.
    pub skipped: Vec<File>,
    /// Volumes that were there at the last checkpoint, with records that are nowhere any more.
    pub lost: Vec<Lost>,
    /// Directories that are missing, or were not read whole.
    pub absent: Vec<Directory>,
    /// Ids of which a checkpoint says something else than the volumes.
    pub contradictions: Vec<u64>,
    /// Complete records that nothing vouches for and that are not whole.
    pub torn: u64,
    /// Writes that were cut off before they were acknowledged.
    pub unfinished: u64,
    /// Checkpoints that can't be used.
    pub unused_checkpoints: Vec<File>,
    /// Files with what compaction could not read.
    pub quarantine: Vec<PathBuf>,
}

/// A volume that is gone or cut off.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Where its file was, or still is.
    pub path: PathBuf,
    /// Chunks of it that are nowhere else.
    pub chunks: u64,
    /// Tombstones, and notes of damage.
    pub tombstones: u64,
}

/// A chunk that can't be read whole.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct Damage {
    /// Its id.
    pub chunk: u64,
    /// What is wrong.
    pub reason: String,
}

/// A file, and what is the matter with it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub struct File {
    /// The file.
    pub path: PathBuf,
    /// What is the matter.
    pub reason: String,
    /// Whether data may be lost with it.
    pub is_damage: bool,
}

/// What a compaction has done.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct Compaction {
    /// Whether it was ended early.
    pub cancelled: bool,
    /// Volumes that are gone.
    pub volumes_removed: u64,
    /// Bytes of their files.
    pub bytes_freed: u64,
    /// Records that were copied out of them.
    pub records_copied: u64,
    /// Bytes of those.
    pub bytes_copied: u64,
    /// Chunks that could not be read.
    pub damaged_chunks: u64,
    /// Volumes of which something could not be read: their files are kept as `.quarantine`.
    pub volumes_quarantined: u64,
    /// Volumes that could not be compacted now.
    pub left: Vec<File>,
}

/// How far a check or a compaction is.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
pub struct Advance {
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes that there are to do.
    pub bytes: u64,
}

/// One line of a node's answer.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Line<T> {
    /// It goes on.
    Progress(Advance),
    /// It is done.
    Report(T),
    /// It could not be done.
    Error(String),
}

/// A record of a dump.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct Record {
    /// Number of the volume.
    pub volume: u32,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes that it takes.
    pub size: u64,
    /// `chunk`, `tombstone`, `quarantined`, `mark`, `final mark`, `unreadable` or `empty`.
    pub kind: &'static str,
    /// `live`, `damaged`, `dead`, `unfinished` or `torn`; nothing where it is of no chunk.
    pub state: Option<&'static str>,
    /// Id of the chunk.
    pub chunk: Option<u64>,
    /// Its length in bytes.
    pub length: Option<u64>,
    /// The blob that it was written for.
    pub blob: Option<String>,
    /// Where in the blob it belongs.
    pub blob_offset: Option<u64>,
    /// The version of the group under which it was written.
    pub version: Option<u64>,
    /// Rises with every record of the store.
    pub sequence: u64,
    /// When it was written, in RFC 3339.
    pub created: Option<String>,
}

impl Stats {
    /// What a store holds.
    ///
    /// # Errors
    /// Where the system does not tell how long a file is, or how much room there is.
    pub fn of(store: &ChunkStore) -> Result<Self, ReadError> {
        let usage = store.usage()?;
        let volumes: Vec<Volume> = store.volumes()?.into_iter().map(Volume::from).collect();
        let last_scrub = store.last_scrub().map(|pass| Scrub {
            completed: rfc3339(pass.completed),
            records: pass.records,
            bytes: pass.bytes,
            damaged: pass.damaged,
        });
        Ok(Self {
            store: store.store_id().to_string(),
            node: store.node_id().to_string(),
            chunks: usage.chunks,
            chunk_bytes: usage.bytes,
            tombstones: usage.tombstones,
            volume_bytes: volumes.iter().map(|volume| volume.bytes).sum(),
            dead_bytes: volumes.iter().map(|volume| volume.dead_bytes).sum(),
            free_bytes: usage.free,
            total_bytes: usage.total,
            damaged_chunks: store.damaged().len() as u64,
            last_scrub,
            directories: store.directories().into_iter().map(Directory::from).collect(),
            volumes,
        })
    }
}

impl From<DirectoryInfo> for Directory {
    fn from(info: DirectoryInfo) -> Self {
        let (state, reason) = match info.state {
            DirectoryState::Healthy => ("healthy", None),
            DirectoryState::Failed { reason } => ("failed", Some(reason)),
            DirectoryState::Missing => ("missing", None),
            // A state that this program does not know yet.
            _ => ("unknown", None),
        };
        Self {
            path: info.path,
            id: info.id.map(|id| id.to_string()),
            state: state.to_owned(),
            reason,
            volumes: info.volumes as u64,
            free_bytes: info.free,
            total_bytes: info.total,
        }
    }
}

impl From<VolumeInfo> for Volume {
    fn from(info: VolumeInfo) -> Self {
        Self {
            number: info.number,
            path: info.path,
            kind: if info.is_aligned { "aligned" } else { "packed" }.to_owned(),
            open: info.is_open,
            bytes: info.size,
            chunks: info.chunks,
            chunk_bytes: info.chunk_bytes,
            tombstones: info.tombstones,
            quarantined: info.quarantined,
            dead_bytes: info.dead_bytes,
        }
    }
}

impl From<LostVolume> for Lost {
    fn from(lost: LostVolume) -> Self {
        Self { path: lost.path, chunks: lost.chunks, tombstones: lost.tombstones }
    }
}

impl From<CheckReport> for Check {
    fn from(report: CheckReport) -> Self {
        let sound = report.is_sound();
        let skipped = report.skipped.into_iter().map(|volume| File {
            path: volume.path,
            is_damage: volume.reason.is_damage(),
            reason: volume.reason.to_string(),
        });
        let damaged = report.damaged.into_iter();
        Self {
            sound,
            cancelled: report.cancelled,
            volumes: report.volumes,
            records: report.records,
            bytes: report.bytes,
            damaged_chunks: report.damaged_chunks,
            damaged: damaged.map(|(id, reason)| Damage { chunk: id.get(), reason }).collect(),
            damaged_tombstones: report.damaged_tombstones.iter().map(|id| id.get()).collect(),
            damaged_regions: report.damaged_regions,
            skipped: skipped.collect(),
            lost: report.lost.into_iter().map(Lost::from).collect(),
            absent: report.absent.into_iter().map(Directory::from).collect(),
            contradictions: report.contradictions.iter().map(|id| id.get()).collect(),
            torn: report.torn,
            unfinished: report.unfinished,
            unused_checkpoints: report.unused_checkpoints.into_iter().map(harmless).collect(),
            quarantine: report.quarantine.into_iter().map(|file| file.path).collect(),
        }
    }
}

impl From<CompactionReport> for Compaction {
    fn from(report: CompactionReport) -> Self {
        Self {
            cancelled: report.cancelled,
            volumes_removed: report.removed,
            bytes_freed: report.freed_bytes,
            records_copied: report.copied,
            bytes_copied: report.copied_bytes,
            damaged_chunks: report.damaged,
            volumes_quarantined: report.quarantined,
            left: report.left.into_iter().map(harmless).collect(),
        }
    }
}

fn harmless((path, reason): (PathBuf, String)) -> File {
    File { path, reason, is_damage: false }
}

impl From<Progress> for Advance {
    fn from(progress: Progress) -> Self {
        Self { bytes_done: progress.bytes_done, bytes: progress.bytes }
    }
}

impl From<&RecordInfo> for Record {
    fn from(info: &RecordInfo) -> Self {
        let state = match info.state {
            RecordState::Live => Some("live"),
            RecordState::Damaged => Some("damaged"),
            RecordState::Dead => Some("dead"),
            RecordState::Unfinished => Some("unfinished"),
            RecordState::Torn => Some("torn"),
            _ => None,
        };
        let mut record = Self {
            volume: info.volume,
            offset: info.offset,
            size: info.size,
            kind: "unknown",
            state,
            chunk: None,
            length: None,
            blob: None,
            blob_offset: None,
            version: None,
            sequence: info.sequence,
            created: info.created.map(rfc3339),
        };
        match info.record {
            RecordOf::Chunk { id, length, owner, version } => {
                record.kind = "chunk";
                (record.chunk, record.length) = (Some(id.get()), Some(length));
                (record.blob, record.blob_offset) = (Some(owner.blob.to_string()), Some(owner.offset));
                record.version = Some(version.get());
            }
            RecordOf::Tombstone { id, version } => {
                record.kind = "tombstone";
                (record.chunk, record.version) = (Some(id.get()), Some(version.get()));
            }
            RecordOf::Quarantined { id, length, .. } => {
                record.kind = "quarantined";
                (record.chunk, record.length) = (Some(id.get()), Some(length));
            }
            RecordOf::Mark { is_final } => record.kind = if is_final { "final mark" } else { "mark" },
            RecordOf::Unreadable => record.kind = "unreadable",
            RecordOf::Empty => record.kind = "empty",
            _ => {}
        }
        record
    }
}

/// As in "2026-11-20T07:00:00Z".
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
