//! The layer of an image, and what its checksum has to be.

use bytes::Bytes;
use speedy_core::blob::BlobInfo;
use speedy_core::digest::Digest;

use super::super::names::Checksum;
use super::super::sums::Sums;
use super::ImageError;
use super::push::Claim;
use super::records::LayerRecord;

/// What is kept of a layer that came.
pub(super) fn record(blob: &BlobInfo, sums: &Sums) -> LayerRecord {
    let bytes = |digest: &Digest| Bytes::copy_from_slice(digest.as_bytes());
    LayerRecord {
        blob: Bytes::copy_from_slice(blob.id.as_bytes()),
        size: blob.size,
        sha256: bytes(&blob.digest),
        payload: bytes(&sums.payload),
        tarsum: sums.tarsum.as_ref().map(bytes).unwrap_or_default(),
        no_tarsum: sums.tarsum.as_ref().err().cloned().unwrap_or_default(),
    }
}

/// Compares all that a client says with the checksums of what came. A checksum that can't be compared (by a method that is
/// not known here, or of a layer that is no tar) is let pass beside one that is right, for that one is of every byte.
pub(super) fn verify(layer: &LayerRecord, claim: Claim) -> Result<(), ImageError> {
    let same = |digest: &Digest, there: &Bytes| {
        if digest.as_bytes() == &there[..] { Ok(()) } else { Err(ImageError::Mismatch) }
    };
    let mut verified = false;
    let mut obstacle = None;
    for claimed in [claim.payload, claim.checksum].into_iter().flatten() {
        match claimed {
            Checksum::Payload(digest) => {
                same(&digest, &layer.payload)?;
                verified = true;
            }
            Checksum::Tarsum(_) if layer.tarsum.is_empty() => {
                obstacle = Some(format!("the layer has no tarsum, since {}", layer.no_tarsum));
            }
            Checksum::Tarsum(digest) => {
                same(&digest, &layer.tarsum)?;
                verified = true;
            }
            Checksum::Other => obstacle = Some("its method is neither sha256 nor tarsum+sha256".to_owned()),
        }
    }
    match obstacle {
        Some(obstacle) if !verified => Err(ImageError::Unverifiable(obstacle)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_that_can_be_compared_must_be_right() {
        let (right, wrong) = (Digest::sha256(b"payload"), Digest::sha256(b"other"));
        let tarsum = Digest::sha256(b"tarsum");
        let bytes = |digest: Digest| Bytes::copy_from_slice(digest.as_bytes());
        let summed = LayerRecord { payload: bytes(right), tarsum: bytes(tarsum), ..LayerRecord::default() };
        let odd =
            LayerRecord { payload: bytes(right), no_tarsum: "it is no tar".into(), ..LayerRecord::default() };
        let (payload, tar) =
            (|digest| Some(Checksum::Payload(digest)), |digest| Some(Checksum::Tarsum(digest)));
        let unverifiable =
            |result: Result<(), ImageError>| matches!(result, Err(ImageError::Unverifiable(_)));
        for (layer, checksum, said, expected) in [
            (&summed, None, payload(right), Ok(())),
            (&summed, None, payload(wrong), Err(ImageError::Mismatch)),
            (&summed, tar(tarsum), None, Ok(())),
            (&summed, tar(wrong), None, Err(ImageError::Mismatch)),
            (&summed, tar(tarsum), payload(right), Ok(())),
            (&summed, tar(wrong), payload(right), Err(ImageError::Mismatch)),
            (&summed, tar(tarsum), payload(wrong), Err(ImageError::Mismatch)),
            // The oldest clients have the payload's checksum in the other header.
            (&summed, payload(right), None, Ok(())),
            (&summed, payload(wrong), None, Err(ImageError::Mismatch)),
            (&summed, Some(Checksum::Other), payload(right), Ok(())),
            (&odd, tar(tarsum), payload(right), Ok(())),
            (&odd, tar(tarsum), payload(wrong), Err(ImageError::Mismatch)),
        ] {
            assert_eq!(verify(layer, Claim { checksum, payload: said }), expected, "{checksum:?} {said:?}");
        }
        assert!(unverifiable(verify(&odd, Claim { checksum: tar(tarsum), payload: None })));
        assert!(unverifiable(verify(&summed, Claim { checksum: Some(Checksum::Other), payload: None })));
    }
}
