use super::*;

fn peer() -> HostPort {
    "store-1:7654".parse().unwrap()
}

fn crosses<E: WireError + PartialEq>(errors: impl IntoIterator<Item = E>) {
    for error in errors {
        assert_eq!(E::from_status(&error.to_status(), &peer()), error);
    }
}

#[test]
fn every_error_is_restored_exactly() {
    let text = || "why, in words: ünïcode too".to_owned();
    let id = ChunkId::new(u64::MAX);
    let file = FileId::new(GroupId::new(7), id);
    crosses([
        NodeError::NotFound(id),
        NodeError::Deleted(id),
        NodeError::Conflict(id),
        NodeError::Damaged { id, reason: text() },
        NodeError::WrongVersion { current: GroupVersion::new(3) },
        NodeError::Body(text()),
        NodeError::Invalid(text()),
        NodeError::Full(text()),
        NodeError::Unavailable(text()),
    ]);
    crosses([
        MetaError::Invalid(text()),
        MetaError::Unavailable(text()),
        MetaError::Full(text()),
        MetaError::Failed(text()),
    ]);
    crosses([MasterError::Refused(text()), MasterError::Unavailable(text())]);
    crosses([
        FragmentError::NotFound(file),
        FragmentError::Damaged { file, reason: text() },
        FragmentError::Invalid(text()),
        FragmentError::Full(text()),
        FragmentError::Unavailable(text()),
    ]);
}

#[test]
fn an_error_of_another_trait_is_not_taken_for_ones_own() {
    let status = NodeError::Conflict(ChunkId::new(1)).to_status();
    assert!(matches!(MetaError::from_status(&status, &peer()), MetaError::Unavailable(_)));
    // A chunk node's error names no group, so it can't be an image node's.
    let status = NodeError::NotFound(ChunkId::new(1)).to_status();
    assert!(matches!(FragmentError::from_status(&status, &peer()), FragmentError::Unavailable(_)));
}

#[test]
fn a_status_without_details_is_unavailable_and_names_the_peer() {
    for code in [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal, Code::Unimplemented] {
        let MetaError::Unavailable(text) = MetaError::from_status(&Status::new(code, "x"), &peer()) else {
            panic!("{code:?} is unavailable");
        };
        assert!(text.starts_with("store-1:7654: "), "{text}");
    }
    let garbled = Status::with_details(Code::Unavailable, "x", Bytes::from_static(b"\xff\xff\xff"));
    assert!(MetaError::from_status(&garbled, &peer()).is_unavailable());
    let too_large = Status::new(Code::OutOfRange, "message too large");
    assert!(matches!(MetaError::from_status(&too_large, &peer()), MetaError::Invalid(_)));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let status = MetaError::Failed("ü".repeat(MAX_TEXT)).to_status();
    assert!(status.message().len() <= MAX_TEXT + '…'.len_utf8());
    assert!(status.details().len() <= MAX_TEXT + 16);
    let MetaError::Failed(text) = MetaError::from_status(&status, &peer()) else { panic!("still a failure") };
    assert!(text.ends_with("ü…"));
}
