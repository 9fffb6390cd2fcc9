use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Subcommand};
use speedy_core::blob::BlobOptions;

use super::values::{self, Age};
use crate::address::HostPort;
use crate::registry::gc::{Ages, GcOptions};
use crate::registry::names::RepositoryName;

/// How a role that collects does so.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Garbage collection")]
pub struct Collect {
    /// How long after one walk over everything the next begins, 1s to 30d; or "off", and then only speedy gc run does
    #[arg(
        long,
        value_name = "DURATION|off",
        env = "SPEEDY_GC_INTERVAL",
        hide_env_values = true,
        value_parser = values::gc_interval,
        default_value = "5m"
    )]
    gc_interval: Age,

    /// Remove manifests that have had no tag for so long, 1m to 3650d, and that no index names; or "off"
    ///
    /// Whoever asks for one by its digest keeps it for as long again. One that is about another (a signature, say) stays
    /// as long as that one does. Off by default: images that are pulled by digest alone need no tag.
    #[arg(
        long,
        value_name = "AGE|off",
        env = "SPEEDY_GC_UNTAGGED",
        hide_env_values = true,
        value_parser = values::kept_for,
        default_value = "off"
    )]
    gc_untagged: Age,

    /// Remove blobs that no manifest of their repository has needed for so long, 1m to 3650d; or "off"
    ///
    /// A push has so much time between a layer and the manifest that names it; asking for the layer, mounting it and
    /// uploading others to the repository begin it anew.
    #[arg(
        long,
        value_name = "AGE|off",
        env = "SPEEDY_GC_UNREFERENCED",
        hide_env_values = true,
        value_parser = values::kept_for,
        default_value = "24h"
    )]
    gc_unreferenced: Age,

    /// Give up uploads to which no byte came for so long, 1m to 365d
    #[arg(
        long,
        value_name = "AGE",
        env = "SPEEDY_GC_UPLOADS",
        hide_env_values = true,
        value_parser = values::uploads_kept_for,
        default_value = "24h"
    )]
    gc_uploads: Duration,

    /// Keep the bytes of what was removed for so long, 1s to 7d, for pulls that are still at them
    #[arg(
        long,
        value_name = "DURATION",
        env = "SPEEDY_GC_GRACE",
        hide_env_values = true,
        value_parser = values::gc_grace,
        default_value = "10m"
    )]
    gc_grace: Duration,

    /// Look at so many things a second at most, 1 to 4294967295: entries of the metadata, and chunks
    #[arg(
        long,
        value_name = "N",
        env = "SPEEDY_GC_RATE",
        hide_env_values = true,
        value_parser = values::pace,
        default_value = "5000"
    )]
    gc_rate: NonZeroU32,
}

impl Collect {
    /// As the collector takes it.
    pub fn options(&self) -> GcOptions {
        let ages = Ages { untagged: self.gc_untagged.0, unreferenced: self.gc_unreferenced.0 };
        GcOptions::default().interval(self.gc_interval.0).ages(ages).rate(Some(self.gc_rate))
    }

    /// What of it the blob store has to know.
    pub fn blobs(&self, options: BlobOptions) -> BlobOptions {
        options.upload_expiry(self.gc_uploads).dead_grace(self.gc_grace)
    }
}

/// `speedy gc`
#[derive(Subcommand, Clone, Debug)]
pub enum Gc {
    /// Look for what nobody needs now, and free it
    ///
    /// A process that collects does so by itself, every few minutes. This does it at once, as fast as it goes, and again
    /// until there is nothing more to free. Pushes and pulls go on.
    #[command(after_help = "\
The bytes of what is removed are kept for those who still read them (--gc-grace of the role, 10
minutes), and then the disks get their room back as volumes are compacted, within minutes.

With --unreferenced shorter than a push takes, a push that is under way can be told that a layer
is unknown; it is done again. Nothing that a manifest needs is ever removed.

EXAMPLES
  speedy gc run --dry-run     of speedy serve: what would be freed, and why
  speedy gc run --admin image-1:16788
  speedy gc run --untagged 30d --unreferenced 1h --dry-run

EXIT CODES
  0  done
  1  it could not be done; the last line on stderr says why
  2  a bad option")]
    Run(GcRun),
    /// Say what the collector does, and what it last did
    #[command(after_help = "\
EXAMPLES
  speedy gc status
  speedy gc status --admin registry-1:15000 --json")]
    Status(GcStatus),
}

/// `speedy gc run`
#[derive(Args, Clone, Debug)]
pub struct GcRun {
    /// Only say what would be removed and freed, and why
    #[arg(long)]
    pub dry_run: bool,

    /// In place of the role's --gc-untagged, in this run: 0s to 3650d, or "off"
    #[arg(long, value_name = "AGE|off", value_parser = values::kept_for_in_a_run)]
    pub untagged: Option<Age>,

    /// In place of the role's --gc-unreferenced, in this run: 0s to 3650d, or "off"
    #[arg(long, value_name = "AGE|off", value_parser = values::kept_for_in_a_run)]
    pub unreferenced: Option<Age>,

    /// Look at so many things a second at most [default: no limit]
    #[arg(long, value_name = "N", value_parser = values::pace)]
    pub rate: Option<NonZeroU32>,

    /// The admin address of a process that collects: speedy serve, or in a cluster an image node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    pub admin: HostPort,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `speedy gc status`
#[derive(Args, Clone, Debug)]
pub struct GcStatus {
    /// The admin address of speedy serve, or of any registry or image node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    pub admin: HostPort,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `speedy usage`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
LOGICAL is what a repository's blobs take, each counted once: layers and configs that it has or
that its manifests hold, manifests above 64 KiB, layers of its images of Docker Registry v1.
SHARED is what of it other repositories hold too, so that it is stored once for all of them;
UNIQUE is the rest, which is freed when the repository goes.

EXAMPLES
  speedy usage
  speedy usage library/ubuntu --json
  speedy usage --admin registry-1:15000

EXIT CODES
  0  done
  1  it could not be found out, or there is no such repository; the last line on stderr says why
  2  a bad option, or a name that no repository can have")]
pub struct UsageOf {
    /// Only this repository
    #[arg(value_name = "REPOSITORY")]
    pub repository: Option<RepositoryName>,

    /// The admin address of speedy serve, or of any registry or image node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15000")]
    pub admin: HostPort,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
