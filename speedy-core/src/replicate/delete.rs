use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::NodeError;
use super::client::Inner;
use crate::id::{FileId, GroupVersion};
use crate::placement::Member;
use crate::replicate::FragmentError;

impl Inner {
    /// Deletes a chunk on every member that a change must reach. The others hear of it when they catch up.
    pub(super) async fn delete(&self, file: FileId) -> Result<(), FragmentError> {
        let deadline = Instant::now() + self.options.topology_wait;
        loop {
            let topology = self.routes.current();
            let group = topology.group(file.group).ok_or_else(|| unknown_group(file, topology.revision))?;
            let deletes = group
                .recipients()
                .map(|member| async move { (member, self.delete_at(file, group.version, member).await) });
            let mut failed = Vec::new();
            let mut newer = None;
            for (member, result) in join_all(deletes).await {
                match result {
                    Ok(()) => {}
                    Err(error) => {
                        if let NodeError::WrongVersion { current } = error {
                            newer = newer.max(Some(current));
                        }
                        failed.push(format!("node {} at {}: {error}", member.node, member.address));
                    }
                }
            }
            match newer {
                _ if failed.is_empty() && group.recipients().next().is_some() => return Ok(()),
                _ if failed.is_empty() => {
                    let text = format!(
                        "group {} has no member that could confirm the delete of chunk {file}",
                        file.group
                    );
                    return Err(FragmentError::Unavailable(text));
                }
                Some(theirs) if Instant::now() < deadline => {
                    self.agree_on_version(file.group, group.version, theirs, deadline).await;
                }
                _ => {
                    let text =
                        format!("the delete of chunk {file} is not confirmed by {}", failed.join("; "));
                    return Err(FragmentError::Unavailable(text));
                }
            }
        }
    }

    /// Deletes a chunk on one member. One that was deleted there before is as good as deleted now.
    pub(super) async fn delete_at(
        &self,
        file: FileId,
        version: GroupVersion,
        member: &Member,
    ) -> Result<(), NodeError> {
        let limit = self.options.progress_timeout;
        match timeout(limit, self.nodes.node(member).delete(file.chunk, version)).await {
            Ok(Err(NodeError::Deleted(_))) => Ok(()),
            Ok(result) => result,
            Err(_) => Err(NodeError::Unavailable(format!("no answer for {limit:?}"))),
        }
    }
}

/// A group that this process has not heard of may well exist: its topology may be old, or not there yet.
pub(super) fn unknown_group(file: FileId, revision: u64) -> FragmentError {
    FragmentError::Unavailable(format!(
        "chunk {file} is in group {}, which this process does not know (its topology has revision {revision})",
        file.group
    ))
}
