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
    /// Whether every group takes chunks and has all its replicas.
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
    let is_sound = report.complete && report.groups.iter().all(|group| group.writable);
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

impl From<Topology> for Report {
    fn from(topology: Topology) -> Self {
        let complete = topology.groups.iter().all(placement::Group::is_complete);
        let groups = topology.groups.into_iter().map(|group| Group {
            group: group.id.get(),
            version: group.version.get(),
            writable: group.is_writable(),
            complete: group.is_complete(),
            in_sync: group.in_sync().count() as u64,
            replicas: group.replicas,
            weight: group.weight,
            members: group.members.into_iter().map(Member::from).collect(),
        });
        Self { complete, revision: topology.revision, groups: groups.collect() }
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
        let in_sync = format!("{} of {} in sync", group.in_sync, group.replicas);
        let takes = match (group.writable, group.complete) {
            _ if group.weight == 0 => "no: drained".to_owned(),
            (true, true) => "yes".to_owned(),
            (true, false) => format!("yes: {in_sync}"),
            (false, true) => "no: short of room".to_owned(),
            (false, false) => format!("no: {in_sync}"),
        };
        for (index, member) in group.members.iter().enumerate() {
            // What is said of the group is said once.
            let (number, takes) =
                if index == 0 { (group.group.to_string(), takes.as_str()) } else { (String::new(), "") };
            table.add_row([
                &number,
                takes,
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
    let closed = count(&|group| !group.writable);
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

    fn report(states: &[MemberState]) -> (String, bool) {
        let members = states.iter().zip(1..).map(|(&state, number)| member(number, state)).collect();
        report_of(members)
    }

    fn report_of(members: Vec<placement::Member>) -> (String, bool) {
        let group = placement::Group {
            id: GroupId::new(7),
            version: GroupVersion::new(4),
            replicas: members.len() as u32,
            weight: 1,
            members,
        };
        let report = Report::from(Topology { revision: 9, groups: vec![group] });
        let mut out = Vec::new();
        text(&mut out, &report).unwrap();
        (String::from_utf8(out).unwrap(), report.complete)
    }

    #[test]
    fn a_person_sees_which_group_takes_chunks_and_what_keeps_another_from_it() {
        use MemberState::{InSync, Lost, ReadOnly};
        let (text, complete) = report(&[InSync; 3]);
        assert!(complete && text.contains("7  yes           in sync  store-1:7654"), "{text}");
        assert!(text.contains("3.00 GiB  4.00 GiB"), "{text}");
        let (text, complete) = report(&[InSync, InSync, Lost]);
        assert!(!complete && text.contains("yes: 2 of 3 in sync"), "{text}");
        assert!(text.contains("1 group has fewer replicas"), "{text}");
        let (text, complete) = report(&[InSync, Lost, Lost]);
        assert!(!complete && text.contains("no: 1 of 3 in sync"), "{text}");
        assert!(text.contains("lost     store-2:7654"), "{text}");
        assert!(text.contains("1 group takes no chunks"), "{text}");
        assert!(report(&[InSync, InSync, ReadOnly]).0.contains("no: short of room"));
    }

    #[test]
    fn a_person_sees_how_long_a_repair_takes() {
        let mut behind = member(3, MemberState::CatchingUp);
        behind.backlog = Backlog { chunks: 1234, bytes: 3 << 30, bytes_per_second: 100 << 20 };
        behind.is_leaving = true;
        let (text, _) = report_of(vec![member(1, MemberState::InSync), behind]);
        assert!(text.contains("catching up, leaving: 1234 chunks, 3.00 GiB, 30 seconds to go"), "{text}");
    }
}
