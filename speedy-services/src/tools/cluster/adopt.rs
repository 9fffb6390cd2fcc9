//! `speedy cluster adopt`: what one process kept becomes the beginning of a cluster.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use speedy_core::embedded::GROUP;
use speedy_core::meta::{EmbeddedMeta, EmbeddedOptions};
use speedy_core::placement::{GroupOrder, Master, MasterError, MasterOptions, StoredMaster};

use super::{ToolError, runtime};
use crate::cli::Adopt;

pub(super) fn run(options: &Adopt) -> Result<ExitCode, ToolError> {
    let directory = &options.data_dir;
    let meta = directory.join("meta");
    // A mistyped name must not become a new store.
    if !meta.is_dir() || !directory.join("chunks").is_dir() {
        return Err(ToolError::NoServe(directory.clone()));
    }
    runtime()?.block_on(async {
        let store = Arc::new(EmbeddedMeta::open(&meta, EmbeddedOptions::default())?);
        let refused = |error: MasterError| ToolError::Refused(error.to_string());
        let settings = MasterOptions::default().replicas(options.replicas);
        let master = StoredMaster::new(store, settings).await.map_err(refused)?;
        master.order(GROUP, GroupOrder::Replicas(options.replicas)).await.map_err(refused)?;
        Ok::<_, ToolError>(())
    })?;
    write!(io::stdout(), "{}", next_steps(directory, options.replicas)).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn next_steps(directory: &Path, replicas: u32) -> String {
    let (meta, chunks) = (directory.join("meta"), directory.join("chunks"));
    let (meta, chunks, others) = (meta.display(), chunks.display(), replicas.saturating_sub(1));
    format!(
        "\
group {GROUP} wants {replicas} replicas now, and {chunks} is the first of them. speedy serve does not take the directory
any more; start instead, on this host:

    speedy meta     --listen HOST:8098 --data-dir {meta}
    speedy master   --listen HOST:8099 --meta HOST:8098 --replicas {replicas}
    speedy chunk    --listen HOST:7654 --data-dir {chunks} --master HOST:8099 --group {GROUP}
    speedy image    --listen HOST:6788 --master HOST:8099 --meta HOST:8098
    speedy registry --listen HOST:5000 --image HOST:6788 --meta HOST:8098

and on {others} more, each with an empty directory:

    speedy chunk    --listen HOST:7654 --data-dir DIR --master HOST:8099 --group {GROUP}

Pulls work at once, pushes when most of the replicas have fetched all chunks: speedy cluster status --master HOST:8099
"
    )
}
