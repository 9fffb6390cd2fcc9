//! `speedy cluster replace`: another node takes the place of one.

use std::io::{self, Write};
use std::process::ExitCode;

use speedy_core::placement::{Group, GroupOrder};

use super::{ToolError, ask, order, runtime};
use crate::cli::Replace;

pub(super) fn run(options: &Replace) -> Result<ExitCode, ToolError> {
    runtime()?.block_on(async {
        let node = options.node;
        let topology = ask(&options.master).await?;
        let is_in = |group: &&Group| group.member(node).is_some();
        let group = topology.groups.iter().find(is_in).ok_or(ToolError::Unknown { node })?.id;
        let wish = if options.cancel { GroupOrder::Stay(node) } else { GroupOrder::Leave(node) };
        order(&options.master, group, wish).await?;
        let mut out = io::stdout();
        let said = match options.cancel {
            true => writeln!(out, "node {node} stays in group {group}"),
            false => writeln!(
                out,
                "node {node} leaves group {group} once another is in sync in its place: start one with speedy chunk \
                 --group {group} and an empty directory; speedy cluster status shows how far it is"
            ),
        };
        said.map_err(ToolError::Print)?;
        Ok(ExitCode::SUCCESS)
    })
}
