//! `speedy cluster`: what the master knows.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::BinaryBytes;
use serde::Serialize;
use speedy_core::placement::{self, Master, MasterError, MemberState, Topology};

use super::NOT_SOUND;
use super::print::{print, print_table, table};
use crate::address::AddressList;
use crate::cli::{Cluster, Status};
use crate::master::MasterClient;

/// How long the masters have to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is printed with `--json`.
#[derive(Serialize, Debug)]
struct Report {
    /// Whether every group takes chunks.
    complete: bool,
    /// Rises with each change of a group.
    revision: u64,
    groups: Vec<Group>,
}

#[derive(Serialize, Debug)]
struct Group {
    group: u32,
    version: u64,
    complete: bool,
    in_sync: u64,
    replicas: u32,
    members: Vec<Member>,
}

#[derive(Serialize, Debug)]
struct Member {
    node: String,
    address: String,
    /// `in sync`, `joining` or `lost`.
    state: &'static str,
    free_bytes: u64,
    total_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error("no master of {masters} answers: {reason}; name those that run with --master")]
    Master { masters: AddressList, reason: String },
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error("cannot print: {0}")]
    Print(io::Error),
}

/// Does what the command line says, and answers the process's exit code.
pub(super) fn run(command: &Cluster) -> ExitCode {
    let Cluster::Status(options) = command;
    status(options).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn status(options: &Status) -> Result<ExitCode, ToolError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let topology = runtime.map_err(ToolError::Start)?.block_on(ask(&options.master))?;
    let report = Report::from(topology);
    print(options.json, &report, text).map_err(ToolError::Print)?;
    Ok(if report.complete { ExitCode::SUCCESS } else { ExitCode::from(NOT_SOUND) })
}

async fn ask(masters: &AddressList) -> Result<Topology, ToolError> {
    let failed = |reason: String| ToolError::Master { masters: masters.clone(), reason };
    let client = MasterClient::new(masters);
    match tokio::time::timeout(PATIENCE, client.topology()).await {
        Ok(answer) => answer.map_err(|error: MasterError| failed(error.to_string())),
        Err(_) => Err(failed(format!("nothing came within {} s", PATIENCE.as_secs()))),
    }
}

impl From<Topology> for Report {
    fn from(topology: Topology) -> Self {
        let complete = topology.groups.iter().all(placement::Group::is_complete);
        let groups = topology.groups.into_iter().map(|group| Group {
            group: group.id.get(),
            version: group.version.get(),
            complete: group.is_complete(),
            in_sync: group.in_sync().count() as u64,
            replicas: group.replicas,
            members: group.members.into_iter().map(Member::from).collect(),
        });
        Self { complete, revision: topology.revision, groups: groups.collect() }
    }
}

impl From<placement::Member> for Member {
    fn from(member: placement::Member) -> Self {
        let state = match member.state {
            MemberState::InSync => "in sync",
            MemberState::Joining => "joining",
            MemberState::Lost => "lost",
            // A state that this program does not know yet.
            _ => "unknown",
        };
        Self {
            node: member.node.to_string(),
            address: member.address,
            state,
            free_bytes: member.free_bytes,
            total_bytes: member.total_bytes,
        }
    }
}

fn text(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.groups.is_empty() {
        return writeln!(out, "no chunk node has joined yet: start some with speedy chunk --group N");
    }
    let mut table = table(["GROUP", "TAKES CHUNKS", "MEMBER", "ADDRESS", "NODE", "FREE", "SIZE"], &[0, 5, 6]);
    for group in &report.groups {
        let takes = match group.complete {
            true => "yes".to_owned(),
            false => format!("no: {} of {} in sync", group.in_sync, group.replicas),
        };
        for (index, member) in group.members.iter().enumerate() {
            // What is said of the group is said once.
            let (number, takes) =
                if index == 0 { (group.group.to_string(), takes.as_str()) } else { (String::new(), "") };
            table.add_row([
                &number,
                takes,
                member.state,
                &member.address,
                &member.node,
                &BinaryBytes(member.free_bytes).to_string(),
                &BinaryBytes(member.total_bytes).to_string(),
            ]);
        }
    }
    print_table(out, &table)?;
    let incomplete = report.groups.iter().filter(|group| !group.complete).count();
    if incomplete > 0 {
        let groups = if incomplete == 1 { "group takes" } else { "groups take" };
        writeln!(out, "\n{incomplete} {groups} no chunks: start the members that are missing; pulls go on")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use speedy_core::id::{GroupId, GroupVersion, NodeId};

    use super::*;

    fn member(number: u8, state: MemberState) -> placement::Member {
        placement::Member {
            node: NodeId::from_bytes([number; 16]),
            address: format!("store-{number}:7654"),
            state,
            free_bytes: 3 << 30,
            total_bytes: 4 << 30,
        }
    }

    fn report(states: [MemberState; 2]) -> (String, bool) {
        let members = states.into_iter().zip(1..).map(|(state, number)| member(number, state)).collect();
        let group = placement::Group {
            id: GroupId::new(7),
            version: GroupVersion::new(4),
            replicas: 2,
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
        let (text, complete) = report([MemberState::InSync, MemberState::InSync]);
        assert!(complete && text.contains("7  yes           in sync  store-1:7654"), "{text}");
        assert!(text.contains("3.00 GiB  4.00 GiB"), "{text}");
        let (text, complete) = report([MemberState::InSync, MemberState::Lost]);
        assert!(!complete && text.contains("no: 1 of 2 in sync"), "{text}");
        assert!(text.contains("lost     store-2:7654"), "{text}");
        assert!(text.contains("1 group takes no chunks"), "{text}");
    }
}
