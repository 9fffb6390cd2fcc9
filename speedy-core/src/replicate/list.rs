use tokio::time::timeout;
use tracing::warn;

use super::client::Inner;
use super::{ChunkPage, NodeError};
use crate::id::ChunkId;
use crate::placement::{Group, Member};
use crate::replicate::{FragmentError, FragmentPage, ListCursor};

impl Inner {
    /// Lists chunks group after group. A page that is not full at the end of a group takes up to `limit` of the next
    /// one too.
    pub(super) async fn list(
        &self,
        cursor: Option<ListCursor>,
        limit: usize,
    ) -> Result<FragmentPage, FragmentError> {
        if limit == 0 {
            return Err(FragmentError::Invalid("a list of no chunks".into()));
        }
        let topology = self.routes.current();
        if topology.groups.is_empty() {
            return Err(FragmentError::Unavailable("no group is known yet, so none can be listed".into()));
        }
        let mut page = FragmentPage::default();
        // A group that was removed since leaves the cursor between two others.
        let groups: Vec<_> =
            topology.groups.iter().filter(|group| cursor.is_none_or(|at| group.id >= at.group)).collect();
        for (index, group) in groups.iter().enumerate() {
            let after = cursor.filter(|at| at.group == group.id).and_then(|at| at.after);
            let part = self.list_group(group, after, limit).await?;
            page.chunks.extend(part.chunks.iter().map(|chunk| (group.id, *chunk)));
            page.next = match part.chunks.last() {
                Some(last) if part.more => Some(ListCursor { group: group.id, after: Some(last.id) }),
                _ => groups.get(index + 1).map(|next| ListCursor { group: next.id, after: None }),
            };
            if part.more || page.chunks.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    /// A page of one group, from the first member that gives it.
    async fn list_group(
        &self,
        group: &Group,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<ChunkPage, FragmentError> {
        let mut holders: Vec<_> = group.holders().collect();
        if holders.is_empty() {
            // It was never complete, so it never took a chunk.
            return Ok(ChunkPage::default());
        }
        holders.sort_by_key(|member| (!member.is_in_sync(), self.suspects.holds(member.node)));
        let mut failed = Vec::new();
        for member in holders {
            match self.list_at(member, after, limit).await {
                Ok(page) => return Ok(page),
                Err(error) => {
                    warn!(group = %group.id, node = %member.node, address = %member.address, %error, "no list of chunks");
                    self.suspects.punish(member.node, self.options.penalty);
                    failed.push(format!("node {} at {}: {error}", member.node, member.address));
                }
            }
        }
        Err(FragmentError::Unavailable(format!("group {} can't be listed: {}", group.id, failed.join("; "))))
    }

    async fn list_at(
        &self,
        member: &Member,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<ChunkPage, NodeError> {
        let wait = self.options.progress_timeout;
        let page = timeout(wait, self.nodes.node(member).list(after, limit)).await;
        let page = page.unwrap_or_else(|_| Err(NodeError::Unavailable(format!("no answer for {wait:?}"))))?;
        // A page that does not go forward would make the caller ask for ever.
        let ids = after.into_iter().chain(page.chunks.iter().map(|chunk| chunk.id));
        if !ids.is_sorted_by(|one, next| one < next) || (page.more && page.chunks.is_empty()) {
            return Err(NodeError::Unavailable("its list of chunks is out of order".into()));
        }
        Ok(page)
    }
}
