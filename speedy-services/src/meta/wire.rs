//! The metadata store's types and their form on the wire.

use speedy_core::meta::{
    Check, Durability, Entry, KeyRange, MetaError, Outcome, Page, Purpose, Transaction, TransactionId,
    Version, Write,
};
use speedy_proto::meta::v1 as proto;
use speedy_proto::meta::v1::check::Kind as CheckKind;
use speedy_proto::meta::v1::transact_response::Outcome as OutcomeKind;
use speedy_proto::meta::v1::write::Kind as WriteKind;

fn missing(what: &str) -> MetaError {
    MetaError::Invalid(format!("{what} is missing or of a kind that this node does not know"))
}

pub(super) fn entry_to_wire(entry: Entry) -> proto::Entry {
    proto::Entry { key: entry.key, value: entry.value, version: entry.version.0 }
}

pub(super) fn entry_from_wire(entry: proto::Entry) -> Entry {
    Entry { key: entry.key, value: entry.value, version: Version(entry.version) }
}

pub(super) fn range_to_wire(range: KeyRange) -> proto::KeyRange {
    proto::KeyRange { start: range.start, end: range.end }
}

pub(super) fn range_from_wire(range: Option<proto::KeyRange>) -> Result<KeyRange, MetaError> {
    let range = range.ok_or_else(|| missing("the range"))?;
    Ok(KeyRange { start: range.start, end: range.end })
}

pub(super) fn page_to_wire(page: Page) -> proto::ScanResponse {
    proto::ScanResponse {
        entries: page.entries.into_iter().map(entry_to_wire).collect(),
        next: page.next.map(range_to_wire),
    }
}

pub(super) fn page_from_wire(page: proto::ScanResponse) -> Page {
    Page {
        entries: page.entries.into_iter().map(entry_from_wire).collect(),
        next: page.next.map(|range| KeyRange { start: range.start, end: range.end }),
    }
}

fn check_to_wire(check: Check) -> proto::Check {
    proto::Check {
        kind: Some(match check {
            Check::Absent(key) => CheckKind::Absent(key),
            Check::Version(key, version) => CheckKind::Version(proto::KeyVersion { key, version: version.0 }),
            Check::RangeEmpty(range) => CheckKind::RangeEmpty(range_to_wire(range)),
        }),
    }
}

fn check_from_wire(check: proto::Check) -> Result<Check, MetaError> {
    Ok(match check.kind.ok_or_else(|| missing("a check"))? {
        CheckKind::Absent(key) => Check::Absent(key),
        CheckKind::Version(at) => Check::Version(at.key, Version(at.version)),
        CheckKind::RangeEmpty(range) => Check::RangeEmpty(range_from_wire(Some(range))?),
    })
}

fn write_to_wire(write: Write) -> proto::Write {
    proto::Write {
        kind: Some(match write {
            Write::Put(key, value) => WriteKind::Put(proto::Put { key, value }),
            Write::Delete(key) => WriteKind::Delete(key),
        }),
    }
}

fn write_from_wire(write: proto::Write) -> Result<Write, MetaError> {
    Ok(match write.kind.ok_or_else(|| missing("a write"))? {
        WriteKind::Put(put) => Write::Put(put.key, put.value),
        WriteKind::Delete(key) => Write::Delete(key),
    })
}

pub(super) fn transaction_to_wire(transaction: Transaction) -> proto::TransactRequest {
    let durability = match transaction.durability {
        Durability::Durable => proto::Durability::Durable,
        Durability::Relaxed => proto::Durability::Relaxed,
    };
    proto::TransactRequest {
        id: transaction.id.0.to_vec().into(),
        checks: transaction.checks.into_iter().map(check_to_wire).collect(),
        writes: transaction.writes.into_iter().map(write_to_wire).collect(),
        durability: durability.into(),
        makes_room: transaction.purpose == Purpose::MakeRoom,
    }
}

pub(super) fn transaction_from_wire(request: proto::TransactRequest) -> Result<Transaction, MetaError> {
    let durability = match request.durability() {
        // Also what a newer client's value reads as: the stronger promise holds for any.
        proto::Durability::Unspecified | proto::Durability::Durable => Durability::Durable,
        proto::Durability::Relaxed => Durability::Relaxed,
    };
    let id = <[u8; 16]>::try_from(&request.id[..])
        .map_err(|_| MetaError::Invalid("a transaction id has 16 bytes".into()))?;
    Ok(Transaction {
        id: TransactionId(id),
        checks: request.checks.into_iter().map(check_from_wire).collect::<Result<_, _>>()?,
        writes: request.writes.into_iter().map(write_from_wire).collect::<Result<_, _>>()?,
        durability,
        purpose: if request.makes_room { Purpose::MakeRoom } else { Purpose::Store },
    })
}

pub(super) fn outcome_to_wire(outcome: Outcome) -> proto::TransactResponse {
    let outcome = match outcome {
        Outcome::Committed(version) => OutcomeKind::Committed(version.0),
        // A position is below the limit on operations, far below 32 bits.
        Outcome::Conflict(at) => OutcomeKind::Conflict(u32::try_from(at).unwrap_or(u32::MAX)),
    };
    proto::TransactResponse { outcome: Some(outcome) }
}

/// `None` where the answer says neither of the two.
pub(super) fn outcome_from_wire(response: proto::TransactResponse) -> Option<Outcome> {
    Some(match response.outcome? {
        OutcomeKind::Committed(version) => Outcome::Committed(Version(version)),
        OutcomeKind::Conflict(at) => Outcome::Conflict(at as usize),
    })
}
