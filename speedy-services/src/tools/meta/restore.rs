use std::path::Path;
use std::process::ExitCode;

use speedy_core::blob::distrust;
use speedy_core::meta::{EmbeddedMeta, EmbeddedOptions};
use speedy_core::placement::after_restore;

use super::{Report, ToolError, text};
use crate::cli::Restore;
use crate::tools::bar::Bar;
use crate::tools::print::print;

/// Bytes of memory for pages.
const CACHE: usize = 128 << 20;

pub(super) fn run(options: &Restore) -> Result<ExitCode, ToolError> {
    // Each row is verified, written, and compared.
    let bar = Bar::counting("restoring", "steps");
    let settings = EmbeddedOptions::default().cache_bytes(CACHE);
    let restored = EmbeddedMeta::restore(&options.file, &options.data_dir, settings, &mut |done, of| {
        bar.advance(done, of);
    });
    let info = restored?;
    prepare(&options.data_dir, settings)
        .map_err(|reason| ToolError::Prepare { directory: options.data_dir.clone(), reason })?;
    bar.end();
    let report = Report::new(options.file.clone(), Some(options.data_dir.clone()), &info);
    print(options.json, &report, text).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the new store as a node does, keeps the collector from what was written since the backup, and the master from
/// versions and ids that it told since.
fn prepare(directory: &Path, settings: EmbeddedOptions) -> Result<(), String> {
    let store = EmbeddedMeta::open(directory, settings).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        distrust(&store).await.map_err(|error| error.to_string())?;
        after_restore(&store).await.map_err(|error| error.to_string())
    })
}
