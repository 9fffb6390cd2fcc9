//! What is in a registry and is no image: charts, signatures, lists of contents, and what refers to what.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use speedy_e2e::{Deployment, Extras, Lab, Layout, Oras, Referrer, SigningKey, noise, same, sha256};

const CHART_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const COSIGN: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const COSIGN_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SBOM: &str = "application/spdx+json";
const SCAN: &str = "application/vnd.example.scan.v1+json";

/// A chart as Helm pushes it, the `+` of its version a `_` in its tag: `oras` pushes, tags, pulls and deletes it, and skopeo copies it.
pub(crate) fn chart<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let (directory, oras) = (lab.directory()?, lab.oras()?);
    let registry = deployment.registry();
    let name = |tag: &str| format!("{}/charts/shop:{tag}", registry.host());
    let (config, chart) = (directory.path().join("config.json"), directory.path().join("shop-1.2.3.tgz"));
    fs::write(
        &config,
        json!({ "name": "shop", "version": "1.2.3+build.5", "apiVersion": "v2" }).to_string(),
    )?;
    let bytes = noise(3, 2_500_000);
    fs::write(&chart, &bytes)?;
    let files = [typed(&chart, CHART)];
    let config = typed(&config, CHART_CONFIG);
    let extras = Extras { config: Some(&config), ..Extras::default() };

    let tag = "1.2.3_build.5";
    let digest = oras.push(&name(tag), &[&files[0]], &extras)?;
    same("digest that the push reports", &registry.stored("charts/shop", tag)?.digest, &digest)?;
    // The chunks of the second push are of another chart: the blobs of the first are there, and would not be sent.
    let other = noise(4, 2_500_000);
    fs::write(&chart, &other)?;
    let chunked = Extras { chunk: Some(700_000), ..extras.clone() };
    let second = oras.push(&name("1.2.4"), &[&files[0]], &chunked)?;
    same("tags", &vec![tag.to_owned(), "1.2.4".to_owned()], &oras.tags(&name("any"))?)?;

    for (tag, bytes) in [(tag, &bytes), ("1.2.4", &other)] {
        let back = directory.path().join(format!("{tag}-back"));
        let manifest = oras.pull(&name(tag), &back)?;
        same("type of the configuration", &Some(CHART_CONFIG), &manifest["config"]["mediaType"].as_str())?;
        same("type of the layer", &Some(CHART), &manifest["layers"][0]["mediaType"].as_str())?;
        same("digest of the chart", &sha256(bytes), &sha256(&fs::read(back.join("shop-1.2.3.tgz"))?))?;
    }
    let copied = Layout::at(&directory.path().join("copied"));
    lab.skopeo()?.copy_all(&format!("docker://{}", name(tag)), &copied.reference())?;
    same("digest of the chart that skopeo has", &digest, &copied.digest()?)?;
    same("blobs of the chart that skopeo has", &3, &copied.blobs()?.len())?;

    ensure!(oras.delete(&name(tag))?, "there was nothing to delete");
    ensure!(!oras.delete(&name(tag))?, "the tag is still there after its delete");
    ensure!(!registry.has_manifest("charts/shop", &digest)?, "the manifest is still there after its delete");
    same("tags after the delete", &vec!["1.2.4".to_owned()], &oras.tags(&name("any"))?)?;
    // A tag alone: its manifest stays.
    registry.delete_manifest("charts/shop", "1.2.4")?;
    ensure!(!registry.has_manifest("charts/shop", "1.2.4")?, "the tag is still there after its delete");
    ensure!(registry.has_manifest("charts/shop", &second)?, "the manifest went with its tag");
    Ok(())
}

/// Artifacts that refer to an index, one of them pushed before it: they are listed, by type too, and leave the list with their
/// manifests. They outlast the index.
pub(crate) fn referrers<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let (directory, oras, skopeo) = (lab.directory()?, lab.oras()?, lab.skopeo()?);
    let registry = deployment.registry();
    let name = |reference: &str| format!("{}/supply/chain{reference}", registry.host());
    let image = Layout::make(&directory.path().join("image"), 11, 500_000)?;
    let digest = image.digest()?;
    let length = usize::try_from(image.blobs()?[&digest])?;
    let file = directory.path().join("findings.json");
    let push = |kind: &str, text: &str, tag: &str| {
        fs::write(&file, text)?;
        // No configuration but its type: an empty blob.
        let config = typed(Path::new("/dev/null"), kind);
        let subject = Some((INDEX, digest.as_str(), length));
        let extras = Extras { config: Some(&config), subject, ..Extras::default() };
        oras.push(&name(&format!(":{tag}")), &[&typed(&file, "application/json")], &extras)
    };
    let subject = name(&format!("@{digest}"));

    same("referrers in no repository", &Vec::new(), &oras.referrers(&subject, None)?)?;
    let before = push(SBOM, "pushed before what it is about", "sbom")?;
    skopeo.copy_all(&image.reference(), &format!("docker://{}", name(":1")))?;
    let after = push(SCAN, "pushed after what it is about", "scan-1")?;
    let another = push(SCAN, "another of this type", "scan-2")?;
    let [sbom, one, two] = [(&before, SBOM), (&after, SCAN), (&another, SCAN)]
        .map(|(digest, kind)| Referrer { digest: digest.clone(), kind: kind.to_owned() });
    let sorted = |mut list: Vec<Referrer>| {
        list.sort();
        list
    };
    let all = sorted(vec![sbom.clone(), one.clone(), two.clone()]);
    same("referrers", &all, &oras.referrers(&subject, None)?)?;
    let scans = sorted(vec![one.clone(), two.clone()]);
    same("referrers of one type", &scans, &oras.referrers(&subject, Some(SCAN))?)?;
    same("referrers of no type", &Vec::new(), &oras.referrers(&subject, Some("application/none"))?)?;

    let back = directory.path().join("back");
    oras.pull(&name(&format!("@{after}")), &back)?;
    same(
        "what a referrer says",
        &"pushed after what it is about",
        &fs::read_to_string(back.join("findings.json"))?.as_str(),
    )?;

    skopeo.delete(&format!("docker://{}", name(":scan-2")))?;
    let left = sorted(vec![sbom.clone(), one.clone()]);
    same("referrers after skopeo's delete", &left, &oras.referrers(&subject, None)?)?;
    ensure!(oras.delete(&name(":sbom"))?, "there was nothing to delete");
    same("referrers after a second delete", &vec![one.clone()], &oras.referrers(&subject, None)?)?;
    skopeo.delete(&format!("docker://{}", name(":1")))?;
    ensure!(!registry.has_manifest("supply/chain", &digest)?, "the index is still there after its delete");
    same("referrers of what is gone", &vec![one], &oras.referrers(&subject, None)?)
}

/// A signature as cosign keeps it, under the tag `sha256-HEX.sig` and as a referrer: what comes back verifies, and skopeo takes
/// it along when it copies the image to another repository.
pub(crate) fn signature<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let (directory, oras, skopeo) = (lab.directory()?, lab.oras()?, lab.skopeo()?);
    let registry = deployment.registry();
    let repository = |name: &str| format!("{}/{name}", registry.host());
    let image = Layout::make(&directory.path().join("image"), 21, 500_000)?;
    // One platform's image: skopeo takes no signatures of an index along.
    skopeo.copy(&image.reference(), &format!("docker://{}:1", repository("signed")))?;
    let signed = registry.stored("signed", "1")?;

    let key = SigningKey::new(&directory.path().join("key"))?;
    let (payload, signature) = key.sign(&repository("signed"), &signed.digest)?;
    let annotations = directory.path().join("annotations.json");
    fs::write(
        &annotations,
        json!({ payload.display().to_string(): { COSIGN_ANNOTATION: signature } }).to_string(),
    )?;
    let empty = directory.path().join("empty.json");
    fs::write(&empty, "{}")?;
    let config = typed(&empty, CONFIG);
    let tag = format!("{}.sig", signed.digest.replace(':', "-"));
    let extras = Extras { config: Some(&config), annotations: Some(&annotations), ..Extras::default() };
    oras.push(&format!("{}:{tag}", repository("signed")), &[&typed(&payload, COSIGN)], &extras)?;
    verify(oras, &format!("{}:{tag}", repository("signed")), &key, &directory.path().join("by-tag"))?;

    let subject = Some((signed.kind.as_str(), signed.digest.as_str(), signed.bytes.len()));
    let extras = Extras { subject, ..extras };
    let referrer =
        oras.push(&format!("{}:referrer", repository("signed")), &[&typed(&payload, COSIGN)], &extras)?;
    let found = oras.referrers(&format!("{}@{}", repository("signed"), signed.digest), None)?;
    same("referrers", &vec![Referrer { digest: referrer.clone(), kind: CONFIG.to_owned() }], &found)?;
    let by_digest = format!("{}@{referrer}", repository("signed"));
    verify(oras, &by_digest, &key, &directory.path().join("by-referrer"))?;

    let from = format!("docker://{}:1", repository("signed"));
    skopeo.copy_signed(&from, &format!("docker://{}:1", repository("mirror/signed")))?;
    same("digest of the copy", &signed.digest, &registry.stored("mirror/signed", "1")?.digest)?;
    let copy = format!("{}:{tag}", repository("mirror/signed"));
    verify(oras, &copy, &key, &directory.path().join("by-copy"))
}

/// Pulls a signature and verifies it; and that not any signature would do.
fn verify(oras: &Oras, name: &str, key: &SigningKey, directory: &Path) -> Result<()> {
    let manifest = oras.pull(name, directory)?;
    let layer = &manifest["layers"][0];
    same("type of what is signed", &Some(COSIGN), &layer["mediaType"].as_str())?;
    let signature = layer["annotations"][COSIGN_ANNOTATION].as_str().context("no signature")?;
    // The client calls a file by its title, or by its digest where it has none.
    let digest = layer["digest"].as_str().context("a layer without a digest")?;
    let titled = directory.join("payload.json");
    let payload = if titled.exists() { titled } else { directory.join(digest) };
    key.verify(&payload, signature).with_context(|| format!("the signature {name}"))?;
    fs::write(&payload, "anything else")?;
    ensure!(key.verify(&payload, signature).is_err(), "{name} verifies anything");
    Ok(())
}

/// As `oras` wants files and what they are.
fn typed(file: &Path, kind: &str) -> String {
    format!("{}:{kind}", file.display())
}
