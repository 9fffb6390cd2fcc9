//! Keeps bytes under their digest in a directory, durably and verified, without any server.

use futures_util::TryStreamExt;
use speedy_core::blob::body_of;
use speedy_core::digest::Digest;
use speedy_core::embedded::{Embedded, EmbeddedOptions};
use speedy_core::meta::Transaction;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let content = "a layer, a model, a backup";
    // Any directory; it is made if it is not there, and locked as long as it is open.
    let directory = tempfile::tempdir()?;
    let speedy = Embedded::open(directory.path(), EmbeddedOptions::default()).await?;

    // On stable storage when this returns. The transaction may write keys of your own together with the blob.
    speedy.blobs().put(body_of(content), None, &|_| Transaction::new()).await?;

    let blob = speedy.blobs().find(&Digest::sha256(content.as_bytes())).await?.ok_or("it was just stored")?;
    let range: Vec<_> = speedy.blobs().read(&blob.info, 9..16)?.try_collect().await?;
    assert_eq!(range.concat(), b"a model");
    println!("{} bytes under {}", blob.info.size, blob.info.digest);
    Ok(())
}
