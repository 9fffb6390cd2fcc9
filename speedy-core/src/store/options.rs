use super::OpenError;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// When an acknowledged write is on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Before the answer: every commit and delete waits for fdatasync. Concurrent ones share it.
    #[default]
    Always,
}

/// How a chunk store behaves. Every option has a default that is right for most uses.
///
/// ```
/// use speedy_core::store::StoreOptions;
///
/// let options = StoreOptions::default().volume_size(512 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub(super) volume_size: u64,
    pub(super) preallocation: u64,
    pub(super) durability: Durability,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { volume_size: 2 * GIB, preallocation: 64 * MIB, durability: Durability::Always }
    }
}

impl StoreOptions {
    /// Size in bytes at which a volume is sealed and the next one starts: 2 GiB by default, 1 MiB to 32 GiB. A chunk
    /// larger than this gets a volume of its own.
    pub fn volume_size(mut self, bytes: u64) -> Self {
        self.volume_size = bytes;
        self
    }

    /// Bytes by which a volume's file grows ahead of the writes: 64 MiB by default, 0 (not at all) to 1 GiB. What is
    /// not used goes back to the file system when the volume is sealed or the store is closed.
    pub fn preallocation(mut self, bytes: u64) -> Self {
        self.preallocation = bytes;
        self
    }

    /// When an acknowledged write is on stable storage: [`Durability::Always`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    pub(super) fn validate(&self) -> Result<(), OpenError> {
        if !(MIB..=32 * GIB).contains(&self.volume_size) {
            let text = format!("volume_size is {} bytes; it must be 1 MiB to 32 GiB", self.volume_size);
            return Err(OpenError::Option(text));
        }
        if self.preallocation > GIB || !self.preallocation.is_multiple_of(4 * KIB) {
            let text = format!(
                "preallocation is {} bytes; it must be a multiple of 4 KiB, up to 1 GiB",
                self.preallocation
            );
            return Err(OpenError::Option(text));
        }
        Ok(())
    }
}
