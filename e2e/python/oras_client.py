"""What the end-to-end tests ask of the OCI Python client `oras`. The last line of the output is the answer, as JSON."""

import argparse
import json

import oras.oci
import oras.provider


def registry_of(options):
    host = options.reference.split("/")[0]
    if options.authority:
        return oras.provider.Registry(hostname=host, tls_verify=options.authority)
    return oras.provider.Registry(hostname=host, insecure=True)


def checked(response):
    response.raise_for_status()
    return response


def push(options):
    """Pushes files; the answer is the digest under which the registry has the manifest."""
    subject = None
    if options.subject:
        media_type, digest, size = options.subject.split(",")
        subject = oras.oci.Subject(media_type, digest, int(size))
    chunks = {"do_chunked": True, "chunk_size": options.chunk} if options.chunk else {}
    response = registry_of(options).push(
        target=options.reference,
        files=options.files,
        manifest_config=options.config,
        annotation_file=options.annotations,
        subject=subject,
        disable_path_validation=True,
        quiet=True,
        **chunks,
    )
    answer = {"digest": response.headers["Docker-Content-Digest"]}
    if subject:
        answer["subject"] = response.headers.get("OCI-Subject")
    return answer


def pull(options):
    """Pulls the files into a directory; the answer is the manifest."""
    registry = registry_of(options)
    registry.pull(target=options.reference, outdir=options.directory)
    return registry.get_manifest(options.reference)


def tags(options):
    return registry_of(options).get_tags(options.reference)


def delete(options):
    """Deletes the manifest that a tag points to, which is what this client does when it is told to delete a tag."""
    registry = registry_of(options)
    return registry.delete_tag(options.reference, registry.get_container(options.reference).tag)


def referrers(options):
    """What refers to a digest. The client has no call for it: its own requests, as its documentation advises."""
    registry = registry_of(options)
    container = registry.get_container(options.reference)
    url = f"{registry.prefix}://{container.registry}/v2/{container.api_prefix}/referrers/{container.digest}"
    if options.type:
        url += f"?artifactType={options.type}"
    response = checked(registry.do_request(url, "GET"))
    filtered = response.headers.get("OCI-Filters-Applied")
    if filtered != ("artifactType" if options.type else None):
        raise SystemExit(f"OCI-Filters-Applied is {filtered}")
    return response.json()["manifests"]


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def command(body):
        made = commands.add_parser(body.__name__)
        made.set_defaults(body=body)
        made.add_argument("reference")
        made.add_argument("--authority", help="speak TLS, and believe the certificate in this file")
        return made

    pushing = command(push)
    pushing.add_argument("--file", dest="files", action="append", help="PATH:TYPE, as often as there are files")
    pushing.add_argument("--config", help="PATH:TYPE")
    pushing.add_argument("--annotations", help="a file with annotations by path")
    pushing.add_argument("--subject", help="TYPE,DIGEST,SIZE")
    pushing.add_argument("--chunk", type=int, help="send blobs in chunks of so many bytes")
    command(pull).add_argument("directory")
    command(tags)
    command(delete)
    command(referrers).add_argument("--type")
    options = parser.parse_args()
    print(json.dumps(options.body(options)))


main()
