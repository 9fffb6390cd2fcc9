//! `speedy cluster status`: what the master knows.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration};
use serde::Serialize;
use speedy_core::placement::{self, Topology};

use super::{ToolError, ask, runtime};
use crate::cli::Status;
use crate::tools::NOT_SOUND;
use crate::tools::print::{print, print_table, table};

/// What is printed with `--json`.
#[derive(Serialize, Debug)]
struct Report {
    /// Whether every group has all its replicas, those aside that are drained or never had a member.
    complete: bool,
    /// Rises with each change of a group.
    revision: u64,
    groups: Vec<Group>,
}

#[derive(Serialize, Debug)]
struct Group {
    group: u32,
    version: u64,
    /// Whether it takes chunks.
    writable: bool,
    /// Whether it was drained, and takes none for that reason.
    drained: bool,
    /// Whether it has all its replicas.
    complete: bool,
    in_sync: u64,
    replicas: u32,
    weight: u32,
    members: Vec<Member>,
}

#[derive(Serialize, Debug)]
struct Member {
    node: String,
    address: String,
    /// `joining`, `in sync`, `read-only`, `catching up`, `settling` or `lost`.
    state: String,
    /// Whether it is to leave once another is in sync in its place.
    leaving: bool,
    free_bytes: u64,
    total_bytes: u64,
    /// What it still has to fetch.
    missing_chunks: u64,
    missing_bytes: u64,
    /// At which they come.
    bytes_per_second: u64,
}

pub(super) fn run(options: &Status) -> Result<ExitCode, ToolError> {
    let topology = runtime()?.block_on(ask(&options.master))?;
    let report = Report::from(topology);
    print(options.json, &report, text).map_err(ToolError::Print)?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

impl Report {
    /// Whether chunks are taken, and by every group that is meant to.
    fn is_sound(&self) -> bool {
        let mut meant = self.groups.iter().filter(|group| group.is_meant_to_take_chunks()).peekable();
        meant.peek().is_some() && meant.all(|group| group.writable && group.complete)
    }
}

impl From<Topology> for Report {
    fn from(topology: Topology) -> Self {
        let groups = topology.groups.into_iter().map(|group| Group {
            group: group.id.get(),
            version: group.version.get(),
            writable: group.takes_new_chunks(),
            drained: group.is_drained(),
            complete: group.is_complete(),
            in_sync: group.in_sync().count() as u64,
            replicas: group.replicas,
            weight: group.weight,
            members: group.members.into_iter().map(Member::from).collect(),
        });
        let groups: Vec<Group> = groups.collect();
        let complete = groups.iter().all(|group| group.complete || !group.is_meant_to_take_chunks());
        Self { complete, revision: topology.revision, groups }
    }
}

impl Group {
    /// Whether it has no member. Members that are silent stay ones, unless the group was never complete: it holds nothing.
    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn is_meant_to_take_chunks(&self) -> bool {
        !self.drained && !self.is_empty()
    }

    /// Whether it takes chunks, and what keeps it from that.
    fn says(&self) -> String {
        let in_sync = format!("{} of {} in sync", self.in_sync, self.replicas);
        match (self.writable, self.complete) {
            _ if self.drained => "no: drained".to_owned(),
            _ if self.is_empty() => "no: never had its members".to_owned(),
            (true, true) => "yes".to_owned(),
            (true, false) => format!("yes: {in_sync}"),
            (false, true) => "no: short of room".to_owned(),
            (false, false) => format!("no: {in_sync}"),
        }
    }
}

impl From<placement::Member> for Member {
    fn from(member: placement::Member) -> Self {
        Self {
            node: member.node.to_string(),
            address: member.address,
            state: member.state.to_string(),
            leaving: member.is_leaving,
            free_bytes: member.free_bytes,
            total_bytes: member.total_bytes,
            missing_chunks: member.backlog.chunks,
            missing_bytes: member.backlog.bytes,
            bytes_per_second: member.backlog.bytes_per_second,
        }
    }
}

impl Member {
    /// Its state, and how long it will take where it is fetching.
    fn says(&self) -> String {
        let leaving = if self.leaving { ", leaving" } else { "" };
        if self.missing_chunks == 0 {
            return format!("{}{leaving}", self.state);
        }
        let left = BinaryBytes(self.missing_bytes);
        let time = match self.missing_bytes.checked_div(self.bytes_per_second) {
            Some(seconds) => HumanDuration(Duration::from_secs(seconds.max(1))).to_string(),
            None => "unknown time".into(),
        };
        format!("{}{leaving}: {} chunks, {left}, {time} to go", self.state, self.missing_chunks)
    }
}

fn text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.groups.is_empty() {
        return writeln!(out, "no chunk node has joined yet: start some with speedy chunk --group N");
    }
    let mut table = table(["GROUP", "TAKES CHUNKS", "MEMBER", "ADDRESS", "NODE", "FREE", "SIZE"], &[0, 5, 6]);
    for group in &report.groups {
        // What is said of the group is said once.
        let (mut number, mut takes) = (group.group.to_string(), group.says());
        if group.is_empty() {
            table.add_row([&number, &takes, "-", "-", "-", "-", "-"]);
        }
        for member in &group.members {
            table.add_row([
                &std::mem::take(&mut number),
                &std::mem::take(&mut takes),
                &member.says(),
                &member.address,
                &member.node,
                &BinaryBytes(member.free_bytes).to_string(),
                &BinaryBytes(member.total_bytes).to_string(),
            ]);
        }
    }
    print_table(out, &table)?;
    let count = |wanted: &dyn Fn(&Group) -> bool| report.groups.iter().filter(|group| wanted(group)).count();
    let groups = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 group {one}"),
        count => format!("{count} groups {many}"),
    };
    if report.groups.iter().all(|group| !group.writable) {
        writeln!(out, "\nno group takes chunks: every push fails until one does; pulls go on")?;
    }
    let closed = count(&|group| group.is_meant_to_take_chunks() && !group.writable);
    if closed > 0 {
        let said = groups(closed, "takes", "take");
        writeln!(out, "\n{said} no chunks: start the members that are missing, or make room; pulls go on")?;
    }
    let thin = count(&|group| group.writable && !group.complete);
    if thin > 0 {
        let said = groups(thin, "has", "have");
        writeln!(
            out,
            "\n{said} fewer replicas than it should: start the members that are lost, or empty ones"
        )?;
    }
    let drained = count(&|group| group.drained);
    if drained > 0 {
        let said = groups(drained, "is", "are");
        writeln!(
            out,
            "\n{said} drained: nobody needs the nodes once speedy cluster drain has said so; drain --cancel lets new \
             chunks in again"
        )?;
    }
    let empty = count(&|group| group.is_empty() && !group.drained);
    if empty > 0 {
        let said = groups(
            empty,
            "was named and never had its members, so it holds",
            "were named and never had their members, so they hold",
        );
        writeln!(
            out,
            "\n{said} nothing: start enough nodes with its number, or leave it where --group was mistyped"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use speedy_core::id::{GroupId, GroupVersion, NodeId};
    use speedy_core::placement::{Backlog, MemberState};

    use super::*;

    fn member(number: u8, state: MemberState) -> placement::Member {
        let mut member =
            placement::Member::new(NodeId::from_bytes([number; 16]), format!("store-{number}:7654"), state);
        (member.free_bytes, member.total_bytes) = (3 << 30, 4 << 30);
        member
    }

    fn group(id: u32, weight: u32, members: Vec<placement::Member>) -> placement::Group {
        let replicas = if members.is_empty() { 3 } else { members.len() as u32 };
        placement::Group { id: GroupId::new(id), version: GroupVersion::new(4), replicas, weight, members }
    }

    fn members(states: &[MemberState]) -> Vec<placement::Member> {
        states.iter().zip(1..).map(|(&state, number)| member(number, state)).collect()
    }

    /// What is printed, and whether all is well.
    fn report_of(groups: Vec<placement::Group>) -> (String, bool) {
        let report = Report::from(Topology { revision: 9, groups });
        let mut out = Vec::new();
        text(&mut out, &report).unwrap();
        (String::from_utf8(out).unwrap(), report.is_sound())
    }

    fn report(states: &[MemberState]) -> (String, bool) {
        report_of(vec![group(7, 1, members(states))])
    }

    #[test]
    fn a_person_sees_which_group_takes_chunks_and_what_keeps_another_from_it() {
        use MemberState::{InSync, Lost, ReadOnly};
        let (text, sound) = report(&[InSync; 3]);
        assert!(sound && text.contains("7  yes           in sync  store-1:7654"), "{text}");
        assert!(text.contains("3.00 GiB  4.00 GiB"), "{text}");
        let (text, sound) = report(&[InSync, InSync, Lost]);
        assert!(!sound && text.contains("yes: 2 of 3 in sync"), "{text}");
        assert!(text.contains("1 group has fewer replicas"), "{text}");
        let (text, sound) = report(&[InSync, Lost, Lost]);
        assert!(!sound && text.contains("no: 1 of 3 in sync"), "{text}");
        assert!(text.contains("lost     store-2:7654"), "{text}");
        assert!(text.contains("1 group takes no chunks"), "{text}");
        assert!(report(&[InSync, InSync, ReadOnly]).0.contains("no: short of room"));
    }

    #[test]
    fn groups_that_are_not_meant_to_take_chunks_are_shown_and_are_no_fault() {
        use MemberState::{InSync, Lost};
        let (serving, drained) = (group(1, 1, members(&[InSync; 3])), group(2, 0, members(&[Lost; 3])));
        let mistyped = group(3, 1, Vec::new());
        let (text, sound) = report_of(vec![serving, drained.clone(), mistyped.clone()]);
        assert!(sound, "{text}");
        for line in
            ["2  no: drained", "3  no: never had its members", "1 group is drained:", "1 group was named"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("start the members that are"), "{text}");
        // But some group has to take chunks.
        for groups in [Vec::new(), vec![mistyped], vec![drained, group(4, 0, members(&[InSync; 3]))]] {
            let (text, sound) = report_of(groups);
            assert!(
                !sound && (text.contains("no group takes chunks:") || text.contains("no chunk node")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_person_sees_how_long_a_repair_takes() {
        let mut behind = member(3, MemberState::CatchingUp);
        behind.backlog = Backlog { chunks: 1234, bytes: 3 << 30, bytes_per_second: 100 << 20 };
        behind.is_leaving = true;
        let (text, _) = report_of(vec![group(7, 1, vec![member(1, MemberState::InSync), behind])]);
        assert!(text.contains("catching up, leaving: 1234 chunks, 3.00 GiB, 30 seconds to go"), "{text}");
    }
}
