//! Podman and buildah, by themselves and with Docker.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use speedy_e2e::{Buildah, Deployment, Lab, Layout, Podman, Registry, files_in, noise, same};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// Bytes of a file that does not compress.
const FILE: usize = 1_500_000;

/// What a platform's image has, by path.
type Files = BTreeMap<String, (String, u64)>;

/// Buildah builds and pushes an image in both kinds of manifest; podman pulls it, with the same id, layers and files, and pushes
/// it to another repository; buildah pulls that and pushes it with a layer more; and each of podman and Docker pulls what the
/// other has pushed.
pub(crate) fn buildah_and_podman<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let (buildah, podman) = tools(directory.path())?;
    let registry = deployment.registry();
    let name = |image: &str| format!("{}/{image}", registry.host());
    let context = directory.path().join("context");
    let expected = make_context(&context, "amd64")?;
    buildah.build(&context, "built:1")?;
    let built = buildah.inspect("built:1")?;
    same("layers of the image", &2, &built.layers.len())?;

    for (kind, tag, media_type) in [("oci", "oci", OCI), ("v2s2", "docker", DOCKER)] {
        let pushed = buildah.push("built:1", kind, &name(&format!("team/app:{tag}")))?;
        let stored = registry.stored("team/app", tag)?;
        same("digest that buildah reports", &stored.digest, &pushed)?;
        same("type of the manifest", &media_type, &stored.kind.as_str())?;
        registry.verify_blobs("team/app", &registry.manifest("team/app", tag)?)?;

        let image = name(&format!("team/app:{tag}"));
        podman.remove_everything()?;
        podman.pull(&image)?;
        let pulled = podman.inspect(&image)?;
        same("digest that podman keeps", &Some(pushed), &pulled.digest)?;
        same("layers", &built.layers, &pulled.layers)?;
        same("files", &expected, &podman.files(&image)?)?;
        same("image id", &built.id, &pulled.id)?;
    }
    same("tags", &vec!["docker".to_owned(), "oci".to_owned()], &podman.tags(&name("team/app"))?)?;

    let pushed = podman.push(&name("team/app:docker"), &name("elsewhere/app:1"))?;
    let elsewhere = registry.manifest("elsewhere/app", "1")?;
    same("digest that podman reports", &elsewhere.digest, &pushed)?;
    registry.verify_blobs("elsewhere/app", &elsewhere)?;

    let file = directory.path().join("on-top");
    fs::write(&file, noise(9, FILE))?;
    buildah.put_on_top(&name("elsewhere/app:1"), &file, "higher:1")?;
    let higher = buildah.inspect("higher:1")?;
    same("layers below", &built.layers, &higher.layers[..built.layers.len()].to_vec())?;
    same("layers with the one on top", &(built.layers.len() + 1), &higher.layers.len())?;
    buildah.push("higher:1", "oci", &name("elsewhere/app:2"))?;

    let docker = lab.docker()?;
    docker.pull(&name("elsewhere/app:2"))?;
    same("layers that Docker has", &higher.layers, &docker.inspect(&name("elsewhere/app:2"))?.layers)?;
    docker.tag(&name("elsewhere/app:2"), &name("from/docker:1"))?;
    let pushed = docker.push(&name("from/docker:1"))?;
    podman.pull(&name("from/docker:1"))?;
    let pulled = podman.inspect(&name("from/docker:1"))?;
    same("digest of what Docker pushed", &Some(pushed.digest), &pulled.digest)?;
    same("layers of what Docker pushed", &higher.layers, &pulled.layers)?;
    let on_top = files_in(directory.path())?.remove("on-top");
    same("the file on top", &on_top, &podman.files(&name("from/docker:1"))?.remove("on-top"))
}

/// Buildah builds an image for two platforms and pushes the index, in both kinds; podman pulls each platform's image, and makes an
/// index of its own from it; skopeo copies that with all it names.
pub(crate) fn index_by_buildah<D: Deployment>(lab: &Lab, deployment: &mut D) -> Result<()> {
    let directory = lab.directory()?;
    let (buildah, podman) = tools(directory.path())?;
    let registry = deployment.registry();
    let name = |image: &str| format!("{}/{image}", registry.host());
    let context = directory.path().join("context");
    let expected = [make_context(&context, "amd64")?, make_context(&context, "arm64")?];
    buildah.build_for(&PLATFORMS, &context, "both")?;

    for (kind, tag, media_type) in [("oci", "oci", OCI_INDEX), ("v2s2", "docker", DOCKER_LIST)] {
        let image = name(&format!("platforms:{tag}"));
        let pushed = buildah.push_list("both", kind, &image)?;
        let stored = registry.stored("platforms", tag)?;
        same("digest of the index", &stored.digest, &pushed)?;
        same("type of the index", &media_type, &stored.kind.as_str())?;
        for (platform, expected) in PLATFORMS.iter().zip(&expected) {
            podman.remove_everything()?;
            podman.pull_for(platform, &image)?;
            same(&format!("files for {platform}"), expected, &podman.files(&image)?)?;
        }
    }

    podman.list_of(&name("platforms:oci"), "again")?;
    let pushed = podman.push_list("again", &name("again:1"))?;
    let stored = registry.stored("again", "1")?;
    same("digest of the index that podman made", &stored.digest, &pushed)?;
    let back = Layout::at(&directory.path().join("back"));
    lab.skopeo()?.copy_all(&format!("docker://{}", name("again:1")), &back.reference())?;
    same("digest of the index that skopeo has", &pushed, &back.digest()?)?;
    // The index, two manifests, two configurations, three layers.
    same("blobs", &8, &back.blobs()?.len())?;
    each_is_there(&registry, "again", &stored.bytes)
}

/// Both, with images of their own each, so that one pulls what the other has pushed.
fn tools(directory: &Path) -> Result<(Buildah, Podman)> {
    Ok((Buildah::new(&directory.join("buildah"))?, Podman::new(&directory.join("podman"))?))
}

/// Adds to a build's directory what the image for this architecture is made of, and says which files the image has.
fn make_context(context: &Path, architecture: &str) -> Result<Files> {
    let own = context.join(architecture);
    let shared = context.join("shared/deep/down");
    fs::create_dir_all(&own)?;
    fs::create_dir_all(&shared)?;
    fs::write(shared.join("noise"), noise(1, FILE))?;
    fs::write(own.join("architecture"), architecture)?;
    fs::write(own.join("noise"), noise(u64::from(architecture.as_bytes()[1]), FILE))?;
    let dockerfile = "FROM scratch\nARG TARGETARCH=amd64\nCOPY shared /shared\nCOPY $TARGETARCH /own\n";
    fs::write(context.join("Dockerfile"), dockerfile)?;
    let below = |place: &str, found: Files| {
        found.into_iter().map(|(path, file)| (format!("{place}/{path}"), file)).collect::<Files>()
    };
    let mut expected = below("shared", files_in(&context.join("shared"))?);
    expected.extend(below("own", files_in(&own)?));
    Ok(expected)
}

/// Every manifest that the index names, and all their blobs.
fn each_is_there(registry: &Registry, repository: &str, index: &[u8]) -> Result<()> {
    let index: serde_json::Value = serde_json::from_slice(index)?;
    let named: Vec<_> = index["manifests"].as_array().into_iter().flatten().collect();
    same("manifests in the index", &PLATFORMS.len(), &named.len())?;
    for descriptor in named {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        ensure!(registry.has_manifest(repository, digest)?, "{digest}, which the index names, is not there");
        registry.verify_blobs(repository, &registry.manifest(repository, digest)?)?;
    }
    Ok(())
}
