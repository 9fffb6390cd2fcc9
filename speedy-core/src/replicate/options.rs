use std::time::Duration;

/// How a replication client waits and retries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ReplicationOptions {
    pub(super) progress_timeout: Duration,
    pub(super) topology_wait: Duration,
    pub(super) failover_wait: Duration,
    pub(super) penalty: Duration,
    pub(super) id_range: u32,
    pub(super) write_window: u64,
}

/// An option has a value that can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidReplicationOption(String);

impl ReplicationOptions {
    /// The defaults that each option names.
    pub fn new() -> Self {
        Self {
            progress_timeout: Duration::from_secs(10),
            topology_wait: Duration::from_secs(3),
            failover_wait: Duration::from_secs(15),
            penalty: Duration::from_secs(5),
            id_range: 65_536,
            write_window: 64 << 20,
        }
    }

    /// How long a node may make no progress (take no frame, give no block, not answer) before it counts as failed.
    /// Default 10 s; 10 ms to 10 minutes. However long a transfer is, only a pause ends it.
    ///
    /// # Errors
    /// Another length.
    pub fn with_progress_timeout(self, timeout: Duration) -> Result<Self, InvalidReplicationOption> {
        let progress_timeout = bounded("progress timeout", timeout)?;
        Ok(Self { progress_timeout, ..self })
    }

    /// How long a write or a delete waits until it and the nodes agree on the group's version. Default 3 s; 10 ms to
    /// 10 minutes.
    ///
    /// # Errors
    /// Another length.
    pub fn with_topology_wait(self, wait: Duration) -> Result<Self, InvalidReplicationOption> {
        Ok(Self { topology_wait: bounded("topology wait", wait)?, ..self })
    }

    /// How long a write that no group has taken goes on trying, as long as one has failed that may go on without the
    /// member that failed. It must be longer than a master takes to notice. Default 15 s; 10 ms to 10 minutes.
    ///
    /// # Errors
    /// Another length.
    pub fn with_failover_wait(self, wait: Duration) -> Result<Self, InvalidReplicationOption> {
        Ok(Self { failover_wait: bounded("failover wait", wait)?, ..self })
    }

    /// How long a group or a node that failed is asked only after the others. Default 5 s; 10 ms to 10 minutes.
    ///
    /// # Errors
    /// Another length.
    pub fn with_penalty(self, penalty: Duration) -> Result<Self, InvalidReplicationOption> {
        Ok(Self { penalty: bounded("penalty", penalty)?, ..self })
    }

    /// Chunk ids taken from the master at a time, for each group. Default 65,536; 1 to 16,777,216. Writes go on
    /// without a master for at least half as many chunks.
    ///
    /// # Errors
    /// Another number.
    pub fn with_id_range(self, ids: u32) -> Result<Self, InvalidReplicationOption> {
        match ids {
            1..=0x100_0000 => Ok(Self { id_range: ids, ..self }),
            _ => Err(InvalidReplicationOption(format!(
                "a range of {ids} chunk ids is not possible: choose 1 to 16,777,216"
            ))),
        }
    }

    /// How many bytes of chunks are on their way to one group at a time; the others wait for their turn, in the order in
    /// which they came. It must cover what the link carries while a chunk becomes durable: at 10 Gbit/s and 50 ms, 60
    /// MiB. Default 64 MiB; 1 MiB to 64 GiB. A chunk that is longer goes alone.
    ///
    /// # Errors
    /// Another number.
    pub fn with_write_window(self, bytes: u64) -> Result<Self, InvalidReplicationOption> {
        match bytes {
            0x10_0000..=0x10_0000_0000 => Ok(Self { write_window: bytes, ..self }),
            _ => Err(InvalidReplicationOption(format!(
                "a write window of {bytes} bytes is not possible: choose 1 MiB to 64 GiB"
            ))),
        }
    }
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn bounded(name: &str, length: Duration) -> Result<Duration, InvalidReplicationOption> {
    if (Duration::from_millis(10)..=Duration::from_secs(600)).contains(&length) {
        return Ok(length);
    }
    Err(InvalidReplicationOption(format!(
        "a {name} of {length:?} is not possible: choose 10 ms to 10 minutes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_options_are_refused() {
        let options = ReplicationOptions::new();
        assert!(options.with_id_range(0).is_err());
        assert!(options.with_id_range(0x100_0001).is_err());
        assert!(options.with_write_window((1 << 20) - 1).is_err());
        assert!(options.with_write_window(64 << 30).is_ok());
        assert!(options.with_write_window((64 << 30) + 1).is_err());
        assert!(options.with_progress_timeout(Duration::ZERO).is_err());
        let error = options.with_penalty(Duration::from_secs(601)).unwrap_err();
        assert_eq!(error.to_string(), "a penalty of 601s is not possible: choose 10 ms to 10 minutes");
    }
}
