use speedy_core::id::{BlobId, ChunkId, NodeId, Owner};
use speedy_core::replicate::{ChunkStat, Link};
use speedy_proto::chunk::v1 as proto;

pub(crate) fn owner_to_wire(owner: Owner) -> proto::Owner {
    proto::Owner { blob: owner.blob.as_bytes().to_vec().into(), offset: owner.offset }
}

/// # Errors
/// What is wrong with it.
pub(crate) fn owner_from_wire(owner: Option<proto::Owner>) -> Result<Owner, String> {
    let owner = owner.ok_or("the owner is missing")?;
    let blob = BlobId::try_from(&owner.blob[..]).map_err(|error| error.to_string())?;
    Ok(Owner { blob, offset: owner.offset })
}

pub(crate) fn link_to_wire(link: Link) -> proto::Link {
    proto::Link {
        node: link.node.as_bytes().to_vec().into(),
        address: link.address,
        is_optional: link.is_optional,
    }
}

/// # Errors
/// What is wrong with it.
pub(crate) fn link_from_wire(link: proto::Link) -> Result<Link, String> {
    let node = NodeId::try_from(&link.node[..]).map_err(|error| error.to_string())?;
    let is_optional = link.is_optional;
    Ok(if is_optional { Link::new(node, link.address).optional() } else { Link::new(node, link.address) })
}

pub(crate) fn stat_to_wire(stat: ChunkStat) -> proto::ChunkStat {
    proto::ChunkStat {
        id: stat.id.get(),
        owner: Some(owner_to_wire(stat.owner)),
        length: stat.length,
        checksum: stat.checksum,
    }
}

/// # Errors
/// What is wrong with it.
pub(crate) fn stat_from_wire(stat: proto::ChunkStat) -> Result<ChunkStat, String> {
    let owner = owner_from_wire(stat.owner)?;
    Ok(ChunkStat::new(ChunkId::new(stat.id), owner, stat.length, stat.checksum))
}
