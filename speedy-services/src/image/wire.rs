//! File ids and listings, and their form on the wire.

use speedy_core::id::{ChunkId, FileId, GroupId};
use speedy_core::replicate::{FragmentPage, ListCursor};
use speedy_proto::image::v1 as proto;

use crate::wire::{stat_from_wire, stat_to_wire};

pub(super) fn file_to_wire(file: FileId) -> proto::FileId {
    proto::FileId { group: file.group.get(), chunk: file.chunk.get() }
}

pub(super) fn file_from_wire(file: proto::FileId) -> FileId {
    FileId::new(GroupId::new(file.group), ChunkId::new(file.chunk))
}

pub(super) fn cursor_to_wire(cursor: ListCursor) -> proto::Cursor {
    proto::Cursor { group: cursor.group.get(), after: cursor.after.map(ChunkId::get) }
}

pub(super) fn cursor_from_wire(cursor: proto::Cursor) -> ListCursor {
    ListCursor { group: GroupId::new(cursor.group), after: cursor.after.map(ChunkId::new) }
}

pub(super) fn page_to_wire(page: FragmentPage) -> proto::ListResponse {
    let chunk = |(group, stat): (GroupId, _)| proto::ListedChunk {
        group: group.get(),
        stat: Some(stat_to_wire(stat)),
    };
    proto::ListResponse {
        chunks: page.chunks.into_iter().map(chunk).collect(),
        next: page.next.map(cursor_to_wire),
    }
}

/// # Errors
/// What is wrong with it.
pub(super) fn page_from_wire(page: proto::ListResponse) -> Result<FragmentPage, String> {
    let chunk = |chunk: proto::ListedChunk| {
        let stat = stat_from_wire(chunk.stat.ok_or("a listed chunk has no description")?)?;
        Ok((GroupId::new(chunk.group), stat))
    };
    Ok(FragmentPage {
        chunks: page.chunks.into_iter().map(chunk).collect::<Result<_, String>>()?,
        next: page.next.map(cursor_from_wire),
    })
}
