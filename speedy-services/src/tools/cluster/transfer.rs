//! `speedy cluster drain`, `move` and `rebalance`: chunks from group to group, while everything goes on.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde::Serialize;
use speedy_core::blob::{BlobStore, InGroup, Transfer, TransferOptions, Transferred};
use speedy_core::id::GroupId;
use speedy_core::placement::{Group, GroupOrder, Topology};

use super::{PATIENCE, ToolError, ask, order, runtime};
use crate::cli::{Drain, Move, Rebalance, TransferTarget};
use crate::tools::NOT_SOUND;
use crate::tools::bar::Bar;
use crate::tools::blobs;
use crate::tools::print::{print, print_table, table};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);
/// By then image nodes know that a group takes no chunks, and what they were writing is in a layout.
const SETTLE: Duration = Duration::from_secs(5);
/// A group that holds less than so much more than its share, of all its room, is left as it is.
const TOLERANCE: u64 = 50;

/// What is printed with `--json`.
#[derive(Serialize, Debug, Default)]
struct Report {
    /// Whether all was moved that was to be.
    complete: bool,
    fragments: u64,
    bytes: u64,
    /// What could not be read or written.
    failures: u64,
    /// Why, each reason once.
    reasons: Vec<String>,
    /// What is left in the group that was drained.
    left_bytes: u64,
    steps: Vec<Step>,
}

/// So much from one group to another.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
struct Step {
    from: u32,
    to: u32,
    bytes: u64,
}

pub(super) fn drain(options: &Drain) -> Result<ExitCode, ToolError> {
    runtime()?.block_on(async {
        let group = GroupId::new(options.group);
        known(&ask(&options.target.master).await?, group)?;
        if options.cancel {
            order(&options.target.master, group, GroupOrder::Weight(1)).await?;
            writeln!(io::stdout(), "group {group} takes new chunks again").map_err(ToolError::Print)?;
            return Ok(ExitCode::SUCCESS);
        }
        order(&options.target.master, group, GroupOrder::Weight(0)).await?;
        let blobs = connect(&options.target).await?;
        // Image nodes may not have heard yet.
        tokio::time::sleep(SETTLE).await;
        let settings = TransferOptions::default().bytes_per_second(options.target.rate());
        let transfer = Arc::new(Transfer::new(blobs, group, settings));
        let bar = Bar::new("moving");
        let mut report = Report::default();
        loop {
            let left = transfer.measure().await.map_err(ToolError::Layouts)?;
            report.left_bytes = left.bytes;
            if left == InGroup::default() {
                report.complete = true;
                break;
            }
            let moved = watched(&transfer, &bar, left.bytes, 0).await?;
            let stuck = moved.fragments == 0 && moved.conflicts == 0;
            // What an earlier pass could not move was tried again.
            (report.failures, report.reasons) = (0, Vec::new());
            report.add(moved, &transfer);
            if stuck {
                break;
            }
        }
        bar.end();
        finish(options.target.json, &report, |out, report| {
            told(out, report)?;
            match report.complete {
                true => writeln!(
                    out,
                    "No blob has a fragment in group {group} any more. Its chunks are freed within some hours; its \
                     nodes can be stopped as soon as nobody reads what was moved: after the longest pull."
                ),
                false => writeln!(
                    out,
                    "{} are still in group {group}, which takes no new chunks: mend that and run it again, or let it take \
                     chunks again with --cancel.",
                    BinaryBytes(report.left_bytes)
                ),
            }
        })
    })
}

pub(super) fn move_some(options: &Move) -> Result<ExitCode, ToolError> {
    if options.from == options.to {
        return Err(ToolError::SameGroup { group: GroupId::new(options.to) });
    }
    runtime()?.block_on(async {
        let (from, to) = (GroupId::new(options.from), GroupId::new(options.to));
        let topology = ask(&options.target.master).await?;
        known(&topology, from)?;
        known(&topology, to)?;
        let blobs = connect(&options.target).await?;
        let mut report = Report::default();
        let most = options.bytes.map_or(u64::MAX, |bytes| bytes.bytes());
        step(&blobs, from, to, most, &options.target, &mut report).await?;
        report.complete = report.failures == 0;
        finish(options.target.json, &report, told)
    })
}

pub(super) fn rebalance(options: &Rebalance) -> Result<ExitCode, ToolError> {
    runtime()?.block_on(async {
        let topology = ask(&options.target.master).await?;
        let blobs = connect(&options.target).await?;
        let mut report = Report { steps: steps(&topology, &blobs).await?, ..Report::default() };
        if options.dry_run || report.steps.is_empty() {
            report.complete = true;
            return finish(options.target.json, &report, planned);
        }
        for Step { from, to, bytes } in report.steps.clone() {
            let (from, to) = (GroupId::new(from), GroupId::new(to));
            step(&blobs, from, to, bytes, &options.target, &mut report).await?;
        }
        report.complete = report.failures == 0;
        finish(options.target.json, &report, told)
    })
}

async fn steps(topology: &Topology, blobs: &BlobStore) -> Result<Vec<Step>, ToolError> {
    let held = blobs.in_groups().await.map_err(ToolError::Layouts)?;
    Ok(plan(topology, |group| held.get(&group).map_or(0, |held| held.bytes)))
}

/// Moves up to so many bytes from one group to another.
async fn step(
    blobs: &BlobStore,
    from: GroupId,
    to: GroupId,
    most: u64,
    target: &TransferTarget,
    report: &mut Report,
) -> Result<(), ToolError> {
    let settings = TransferOptions::default().to(to).most_bytes(most).bytes_per_second(target.rate());
    let transfer = Arc::new(Transfer::new(blobs.clone(), from, settings));
    let bar = Bar::new("moving");
    let there = transfer.measure().await.map_err(ToolError::Layouts)?;
    let moved = watched(&transfer, &bar, there.bytes.min(most), report.bytes).await?;
    bar.end();
    report.add(moved, &transfer);
    Ok(())
}

/// One pass, with a bar. Ctrl-C ends it between two changes of a layout or in the middle of one: each is one transaction. Other
/// transfers of the command had moved `earlier` bytes by then.
async fn watched(
    transfer: &Arc<Transfer>,
    bar: &Bar,
    bytes: u64,
    earlier: u64,
) -> Result<Transferred, ToolError> {
    let before = transfer.moved_bytes();
    let working = Arc::clone(transfer);
    let mut pass = tokio::spawn(async move { working.pass().await });
    let mut stopped = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            done = &mut pass => {
                let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                return done.map_err(ToolError::Layouts);
            }
            _ = &mut stopped => {
                bar.end();
                return Err(ToolError::Stopped { bytes: earlier + transfer.switched_bytes() });
            }
            () = tokio::time::sleep(TICK) => bar.advance(transfer.moved_bytes() - before, bytes),
        }
    }
}

impl Report {
    fn add(&mut self, moved: Transferred, transfer: &Transfer) {
        self.fragments += moved.fragments;
        self.bytes += moved.bytes;
        self.failures += moved.failures;
        self.reasons.extend(transfer.reasons());
        self.reasons.dedup();
    }
}

fn finish(
    as_json: bool,
    report: &Report,
    text: impl FnOnce(&mut dyn Write, &Report) -> io::Result<()>,
) -> Result<ExitCode, ToolError> {
    print(as_json, report, text).map_err(ToolError::Print)?;
    Ok(if report.complete { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

fn told(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    writeln!(out, "moved {} fragments, {}", report.fragments, BinaryBytes(report.bytes))?;
    if report.failures > 0 {
        writeln!(out, "{} fragments could not be moved and stay where they are:", report.failures)?;
        report.reasons.iter().try_for_each(|reason| writeln!(out, "  {reason}"))?;
    }
    Ok(())
}

fn planned(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.steps.is_empty() {
        return writeln!(out, "the groups are as full as each other: there is nothing to move");
    }
    let mut table = table(["FROM", "TO", "BYTES"], &[0, 1, 2]);
    for step in &report.steps {
        table.add_row([step.from.to_string(), step.to.to_string(), BinaryBytes(step.bytes).to_string()]);
    }
    print_table(out, &table)
}

/// What of which group goes where, so that all are as full as each other.
///
/// `held` says what layouts name in a group. What its disks have in use is no measure: what was moved away counts there for
/// hours, until the collector has freed it, and would be moved again and again.
fn plan(topology: &Topology, held: impl Fn(GroupId) -> u64) -> Vec<Step> {
    let groups = topology.groups.iter().filter(|group| group.takes_new_chunks());
    let shares: Vec<Share> = groups.filter_map(|group| Share::of(group, held(group.id))).collect();
    let (held, size) = shares.iter().fold((0u128, 0u128), |(held, size), share| {
        (held + u128::from(share.held), size + u128::from(share.size))
    });
    if size == 0 {
        return Vec::new();
    }
    let fair = |share: &Share| u64::try_from(u128::from(share.size) * held / size).unwrap_or(u64::MAX);
    let mut over: Vec<(u32, u64)> = Vec::new();
    let mut under: Vec<(u32, u64)> = Vec::new();
    for share in &shares {
        let fair = fair(share);
        if share.held > fair + share.size / TOLERANCE {
            over.push((share.group, share.held - fair));
        } else if fair > share.held {
            under.push((share.group, (fair - share.held).min(share.room)));
        }
    }
    over.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    under.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let mut steps = Vec::new();
    for (from, mut surplus) in over {
        for (to, room) in &mut under {
            let bytes = surplus.min(*room);
            if bytes > 0 {
                steps.push(Step { from, to: *to, bytes });
                *room -= bytes;
                surplus -= bytes;
            }
        }
    }
    steps
}

/// What a group holds, and can.
struct Share {
    group: u32,
    held: u64,
    /// The disks of its smallest member.
    size: u64,
    /// What may be moved to it: a tenth of the disks stays free.
    room: u64,
}

impl Share {
    /// `None` where no member says how large it is.
    fn of(group: &Group, held: u64) -> Option<Self> {
        let sized = || group.in_sync().filter(|member| member.total_bytes > 0);
        let size = sized().map(|member| member.total_bytes).min()?;
        let room = sized().map(|member| member.free_bytes.saturating_sub(member.total_bytes / 10)).min()?;
        Some(Self { group: group.id.get(), held, size, room })
    }
}

fn known(topology: &Topology, group: GroupId) -> Result<(), ToolError> {
    topology.group(group).map(|_| ()).ok_or(ToolError::NoGroup { group })
}

async fn connect(target: &TransferTarget) -> Result<BlobStore, ToolError> {
    let nobody = || ToolError::Master {
        masters: target.master.clone(),
        reason: format!("no group was named within {} s", PATIENCE.as_secs()),
    };
    blobs::of_cluster(&target.master, &target.meta, PATIENCE).await.ok_or_else(nobody)
}

#[cfg(test)]
mod tests {
    use speedy_core::blob::{BlobOptions, MemoryFragments, body_of};
    use speedy_core::budget::Budget;
    use speedy_core::id::{GroupVersion, NodeId};
    use speedy_core::meta::{MemoryMeta, Transaction};
    use speedy_core::placement::{Member, MemberState};

    use super::*;

    fn group(id: u32, used: u64, total: u64) -> Group {
        let member = |number: u8| {
            let mut member = Member::new(NodeId::from_bytes([number; 16]), "h:1", MemberState::InSync);
            (member.free_bytes, member.total_bytes) = (total - used, total);
            member
        };
        let members = (0..3).map(member).collect();
        Group { id: GroupId::new(id), version: GroupVersion::new(1), replicas: 3, weight: 1, members }
    }

    /// The plan where disks have nothing in use but what layouts name.
    fn plan_of(groups: &[Group]) -> Vec<Step> {
        let used = |id| {
            let group = groups.iter().find(|group| group.id == id).unwrap();
            group.members[0].total_bytes - group.members[0].free_bytes
        };
        plan(&Topology { revision: 1, groups: groups.to_vec() }, used)
    }

    #[test]
    fn the_fullest_groups_give_to_the_emptiest() {
        let groups = vec![group(1, 900, 1000), group(2, 0, 1000), group(3, 300, 1000), group(4, 0, 2000)];
        // 1200 of 5000 are in use: 240, 240, 240 and 480 each.
        assert_eq!(
            plan_of(&groups),
            [
                Step { from: 1, to: 4, bytes: 480 },
                Step { from: 1, to: 2, bytes: 180 },
                Step { from: 3, to: 2, bytes: 60 }
            ]
        );
        let drained = Group { weight: 0, ..groups[1].clone() };
        assert_eq!(plan_of(&[group(1, 500, 1000), drained, group(3, 510, 1000)]), []);
        assert_eq!(plan_of(&[]), []);
        // Its disks hold something else, too.
        let crowded = [group(1, 900, 1000), group(2, 700, 1000)];
        let held = |group: GroupId| if group.get() == 1 { 900 } else { 0 };
        let topology = Topology { revision: 1, groups: crowded.to_vec() };
        assert_eq!(plan(&topology, held), [Step { from: 1, to: 2, bytes: 200 }]);
    }

    #[tokio::test]
    async fn what_was_moved_and_is_not_freed_yet_is_not_moved_again() {
        let (meta, fragments) = (Arc::new(MemoryMeta::new()), Arc::new(MemoryFragments::new()));
        let options = BlobOptions::default().fragment_size(1000).unwrap();
        let blobs = BlobStore::new(meta, fragments, Budget::new(1 << 20), options);
        blobs.put(body_of(vec![7; 400_000]), None, &|_| Transaction::new()).await.unwrap();
        // What the nodes report stays as it is while all that was moved is still to be freed.
        let from = MemoryFragments::GROUP.get();
        let mut groups = vec![group(from, 400_000, 1_000_000), group(from + 1, 0, 1_000_000)];
        groups.sort_by_key(|group| group.id);
        let topology = Topology { revision: 1, groups };
        let run = async || {
            let mut moved = 0;
            for Step { from, to, bytes } in steps(&topology, &blobs).await.unwrap() {
                let options = TransferOptions::default().to(GroupId::new(to)).most_bytes(bytes);
                let transfer = Transfer::new(blobs.clone(), GroupId::new(from), options);
                moved += transfer.pass().await.unwrap().bytes;
            }
            moved
        };
        let moved = run().await;
        assert!((180_000..=300_000).contains(&moved), "{moved}");
        assert_eq!(run().await, 0);
    }

    #[test]
    fn what_could_not_be_moved_is_told_with_the_reasons() {
        let reasons = vec!["group 2 is drained: it takes no new chunks".to_owned()];
        let mut out = Vec::new();
        told(&mut out, &Report { failures: 7, reasons, ..Report::default() }).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("7 fragments could not be moved and stay where they are:\n  group 2 is drained")
        );
    }
}
