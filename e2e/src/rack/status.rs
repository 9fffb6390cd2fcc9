//! What the masters know, as `speedy cluster status` tells it.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binary::speedy;
use crate::network::Host;
use crate::process::Finished;

const LIMIT: Duration = Duration::from_secs(30);

const IN_SYNC: &str = "in sync";

/// The groups and their members.
#[derive(Debug)]
pub(super) struct Status(Value);

impl Status {
    /// Asks these masters from this host.
    pub(super) fn ask(host: &Host, masters: &str) -> Result<Self> {
        let mut command = host.command(&speedy()?);
        command.args(["cluster", "status", "--json", "--master", masters]);
        // It says by its exit code too that a group is not complete.
        let finished = Finished::of(&mut command, LIMIT)?;
        let status = serde_json::from_str(&finished.output);
        Ok(Self(status.with_context(|| format!("speedy cluster status: {}", finished.errors))?))
    }

    /// Whether there are so many groups, each with so many members in sync and none that is not.
    pub(super) fn is_complete(&self, groups: usize, replicas: usize) -> bool {
        let found = self.groups();
        found.len() == groups
            && found.iter().all(|group| {
                let members = members(group);
                members.len() == replicas && members.iter().all(|member| state(member) == IN_SYNC)
            })
    }

    /// The node that the group dials at this address.
    pub(super) fn node_at(&self, address: &str) -> Result<String> {
        let node = self.member_at(address).and_then(|member| member["node"].as_str());
        node.map(str::to_owned).with_context(|| format!("no member at {address}: {self}"))
    }

    /// Whether the member at this address is in sync.
    pub(super) fn is_in_sync(&self, address: &str) -> bool {
        self.member_at(address).is_some_and(|member| state(member) == IN_SYNC)
    }

    fn member_at(&self, address: &str) -> Option<&Value> {
        self.groups().iter().flat_map(members).find(|member| member["address"].as_str() == Some(address))
    }

    fn groups(&self) -> &[Value] {
        self.0["groups"].as_array().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in self.groups() {
            write!(f, "group {}:", group["group"])?;
            for member in members(group) {
                write!(f, " {} {},", member["address"].as_str().unwrap_or("?"), state(member))?;
            }
            write!(f, " version {}; ", group["version"])?;
        }
        Ok(())
    }
}

fn members(group: &Value) -> &[Value] {
    group["members"].as_array().map_or(&[], Vec::as_slice)
}

fn state(member: &Value) -> &str {
    member["state"].as_str().unwrap_or("?")
}
