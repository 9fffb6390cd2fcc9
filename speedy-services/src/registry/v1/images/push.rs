//! An image as it is pushed: its JSON, its layer, its checksum.

use bytes::Bytes;
use speedy_core::blob::{BlobError, Body};
use speedy_core::meta::{Check, Transaction, Write};

use super::super::names::{Checksum, ImageId};
use super::super::sums::summed;
use super::records::{ImageRecord, LayerRecord, decode, encode};
use super::{ImageError, Images, MOST_ANCESTORS, TRIES, back_off, contended, ids, keys};

/// What a client says that the checksum of an image is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::registry::v1) struct Claim {
    /// `X-Docker-Checksum`
    pub checksum: Option<Checksum>,
    /// `X-Docker-Checksum-Payload`
    pub payload: Option<Checksum>,
}

impl Images {
    /// Keeps the JSON of an image that is not complete. The same JSON again changes nothing; another one lets go of the
    /// layer, whose checksum it is a part of.
    pub(in crate::registry::v1) async fn put_json(
        &self,
        id: &ImageId,
        parent: Option<ImageId>,
        json: &Bytes,
    ) -> Result<(), ImageError> {
        for round in 0..TRIES {
            let there = self.entry(id).await?;
            let of_parent = parent.iter().flat_map(|parent| [keys::image(parent), keys::ancestry(parent)]);
            let of_parent: Vec<Bytes> = of_parent.collect();
            let mut found = self.meta().get_many(&of_parent).await?.into_iter();
            let before: Option<ImageRecord> = there.as_ref().map(decode).transpose()?;
            let mut transaction = Transaction::new().unchanged(keys::image(id), there.as_ref());
            if let Some(before) = &before {
                if before.complete {
                    return Err(ImageError::Exists);
                }
                if before.json == *json {
                    return Ok(());
                }
                transaction =
                    self.without(id, before, transaction).check(Check::RangeEmpty(keys::children(id)));
            }
            let mut ancestry = id.as_bytes().to_vec();
            if let Some(parent) = &parent {
                let (Some(Some(image)), Some(Some(of_parent))) = (found.next(), found.next()) else {
                    return Err(ImageError::NoParent);
                };
                ancestry.extend_from_slice(&of_parent.value);
                let all = ids(&ancestry);
                if all[1..].contains(id) {
                    return Err(ImageError::NoParent);
                }
                if all.len() > MOST_ANCESTORS + 1 {
                    return Err(ImageError::Deep);
                }
                let child = keys::child(parent, id);
                transaction.writes.retain(|write| *write.key() != child);
                transaction = transaction
                    .check(Check::Version(image.key.clone(), image.version))
                    .write(Write::Put(child, Bytes::new()));
            }
            let record = ImageRecord {
                json: json.clone(),
                parent: parent.iter().flat_map(|parent| *parent.as_bytes()).collect(),
                created: self.meta().now().await?.0,
                layer: None,
                complete: false,
            };
            transaction = transaction
                .write(Write::Put(keys::ancestry(id), ancestry.into()))
                .write(Write::Put(keys::image(id), encode(&record)));
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(());
            }
            // Looked at only now, for the common case costs nothing then.
            if before.is_some() && !self.meta().scan(keys::children(id), 1).await?.entries.is_empty() {
                return Err(ImageError::HasChildren);
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the image {id}")).into())
    }

    /// Lets go of what the record before held: its place below its parent, and its layer.
    fn without(&self, id: &ImageId, before: &ImageRecord, mut transaction: Transaction) -> Transaction {
        if let Some(parent) = before.parent() {
            transaction = transaction.write(Write::Delete(keys::child(&parent, id)));
        }
        if let Some(layer) = before.layer.as_ref().and_then(LayerRecord::info) {
            transaction = transaction.write(Write::Delete(keys::reference(layer.id, id)));
        }
        transaction
    }

    /// Stores the layer of an image whose JSON is there, once for all that has these bytes, and makes the image's checksums
    /// meanwhile.
    ///
    /// The bytes become a blob first, as any that is uploaded; the transaction after it, which gives it to the image, checks
    /// that it is live. Between the two it is a blob that nothing holds yet. For an image that is complete the same layer again
    /// is no error.
    ///
    /// The upload carries the [name](keys::label) of the image, so that the collector spares the image however long the layer
    /// takes.
    pub(in crate::registry::v1) async fn put_layer(
        &self,
        id: &ImageId,
        body: Body,
    ) -> Result<(), ImageError> {
        let (before, _) = self.record(id).await?.ok_or(ImageError::NotFound)?;
        let (body, sums) = summed(body, &before.json, self.blobs().budget());
        let blob = self.blobs().put_as(&keys::label(id), body, &|_| Transaction::new()).await?;
        let sums = sums.lock().take();
        let sums =
            sums.ok_or_else(|| BlobError::Unavailable("a layer ended without its checksums".into()))?;
        for round in 0..TRIES {
            let Some((mut record, version)) = self.record(id).await? else {
                return Err(ImageError::NotFound);
            };
            if record.complete {
                // Another client was faster, or the answer to the first try was lost.
                let is_same = |layer: &LayerRecord| layer.payload == sums.payload.as_bytes();
                return if record.layer.as_ref().is_some_and(is_same) {
                    Ok(())
                } else {
                    Err(ImageError::Exists)
                };
            }
            if record.json != before.json {
                return Err(ImageError::Changed);
            }
            let live = self.blobs().find(&blob.digest).await?.ok_or_else(|| {
                BlobError::Unavailable(format!("the layer of {id} was removed as it came; send it again"))
            })?;
            let mut transaction =
                Transaction::new().check(Check::Version(keys::image(id), version)).check(live.check_live());
            if let Some(layer) = record.layer.as_ref().and_then(LayerRecord::info)
                && layer.id != live.info.id
            {
                transaction = transaction.write(Write::Delete(keys::reference(layer.id, id)));
            }
            record.layer = Some(super::layer::record(&live.info, &sums));
            transaction = transaction
                .write(Write::Put(keys::reference(live.info.id, id), Bytes::new()))
                .write(Write::Put(keys::image(id), encode(&record)));
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(());
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the layer of image {id}")).into())
    }

    /// Makes an image complete whose checksum is what the client says. Said again it is no error.
    pub(in crate::registry::v1) async fn put_checksum(
        &self,
        id: &ImageId,
        claim: Claim,
    ) -> Result<(), ImageError> {
        for round in 0..TRIES {
            let (mut record, version) = self.record(id).await?.ok_or(ImageError::NotFound)?;
            let layer = record.layer.as_ref().ok_or(ImageError::NoLayer)?;
            let verified = super::layer::verify(layer, claim);
            if record.complete {
                return verified.map_err(|_| ImageError::Settled);
            }
            verified?;
            record.complete = true;
            let transaction = Transaction::new()
                .check(Check::Version(keys::image(id), version))
                .write(Write::Put(keys::image(id), encode(&record)));
            if self.meta().transact(transaction).await?.is_committed() {
                return Ok(());
            }
            back_off(round).await;
        }
        Err(contended(format_args!("the checksum of image {id}")).into())
    }
}
