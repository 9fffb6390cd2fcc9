use bytes::{Buf, BufMut};

use super::Head;
use crate::id::StoreId;

/// How far the verification of a store is. It is derived: without it the verification starts over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct ScrubState {
    pub(in crate::store) store: StoreId,
    /// The pass that runs goes on in this volume ...
    pub(in crate::store) volume: u32,
    /// ... at this offset.
    pub(in crate::store) offset: u64,
    /// What it has seen so far.
    pub(in crate::store) pass: ScrubTally,
    /// The last pass that was complete; all zeros before the first.
    pub(in crate::store) last: ScrubTally,
    /// When that one ended, in milliseconds since 1970.
    pub(in crate::store) completed: u64,
}

/// What a pass over a store has seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(in crate::store) struct ScrubTally {
    /// When it began, in milliseconds since 1970; 0 if it has not.
    pub(in crate::store) started: u64,
    pub(in crate::store) records: u64,
    pub(in crate::store) bytes: u64,
    pub(in crate::store) damaged: u64,
}

impl ScrubState {
    pub(in crate::store) fn new(store: StoreId) -> Self {
        let (pass, last) = (ScrubTally::default(), ScrubTally::default());
        Self { store, volume: 0, offset: 0, pass, last, completed: 0 }
    }
}

impl ScrubTally {
    fn put(&self, out: &mut &mut [u8]) {
        for field in [self.started, self.records, self.bytes, self.damaged] {
            out.put_u64_le(field);
        }
    }

    fn take(fields: &mut &[u8]) -> Self {
        let mut next = || fields.get_u64_le();
        Self { started: next(), records: next(), bytes: next(), damaged: next() }
    }
}

impl Head for ScrubState {
    const MAGIC: &'static [u8; 8] = b"SPEEDYSC";

    fn put(&self, out: &mut &mut [u8]) {
        out.put_slice(self.store.as_bytes());
        out.put_u32_le(self.volume);
        out.put_u64_le(self.offset);
        self.pass.put(out);
        self.last.put(out);
        out.put_u64_le(self.completed);
    }

    fn take(fields: &mut &[u8]) -> Option<Self> {
        let mut store = [0; 16];
        fields.copy_to_slice(&mut store);
        let store = StoreId::from_bytes(store);
        let (volume, offset) = (fields.get_u32_le(), fields.get_u64_le());
        let (pass, last) = (ScrubTally::take(fields), ScrubTally::take(fields));
        Some(Self { store, volume, offset, pass, last, completed: fields.get_u64_le() })
    }
}
