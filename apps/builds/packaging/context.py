"""The build context of a package: as a tree of the store for our own builds, or as an archive for anybody's."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from apps.builds.contract import RUNTIME
from apps.builds.enums import PackageServer
from apps.builds.models import Package
from apps.builds.packaging.dockerfile import PORT, TRITON_PORTS, Plan, render
from apps.builds.packaging.plan import image_name, plan_of
from apps.registry import storage
from apps.registry.models import Tree
from apps.registry.scripts import root_of

CHUNK = 1 << 18
BLOCK = tarfile.BLOCKSIZE
GZIP = 31  # zlib's window bits for gzip's format, with no time in its header
RUNTIME_PARTS = {
    PackageServer.AZUREML_ONLINE: ("boot.py", "serving"),
    PackageServer.TRITON: ("relay.py", "serving/failures.py", "triton"),
}


@dataclass(frozen=True)
class Entry:
    """A file of the context: text of ours, or a file of this machine."""

    name: str
    text: str = ""
    path: Path | None = None
    stored: bool = False
    """It lies in the store, so it never changes and may be linked to."""

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path else len(self.text.encode())

    @property
    def executable(self) -> bool:
        return self.path is not None and os.access(self.path, os.X_OK)


def entries(package: Package, plan: Plan) -> list[Entry]:
    """In the order of their names, those of every package first."""
    found = [Entry("Dockerfile", render(plan)), Entry("README.md", readme(package))]
    if plan.packages:
        found.append(Entry("requirements.lock", package.lock))
    if plan.ours:
        found += _runtime(PackageServer(package.server))
    if package.code is not None:
        found += _folder("code", root_of(package.code))
    return [*found, *_folder("model", storage.tree_path(package.model.tree_id))]


def _folder(name: str, root: Path) -> list[Entry]:
    files = sorted(each for each in root.rglob("*") if each.is_file() and not each.is_symlink())
    return [Entry(f"{name}/{each.relative_to(root).as_posix()}", path=each, stored=True) for each in files]


def _runtime(server: PackageServer) -> list[Entry]:
    root = settings.BASE_DIR / "runtime"
    files = [file for part in RUNTIME_PARTS[server] for file in ([root / part, *sorted((root / part).rglob("*.py"))])]
    return [Entry(f"runtime/{each.relative_to(root).as_posix()}", path=each) for each in files if each.is_file()]


def as_tree(package: Package, plan: Plan) -> Tree:
    """The context in the store. Models are linked there, not copied; nobody's tree, it goes when it is not used."""
    with storage.scratch() as folder:
        whole = folder / "context"
        for entry in entries(package, plan):
            target = whole / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.path is None:
                target.write_text(entry.text, encoding="utf-8")
            elif entry.stored:
                os.link(entry.path, target)
            else:
                shutil.copyfile(entry.path, target)
        return storage.adopt(whole)


# ---- for other machines


def archive(package: Package) -> Iterator[bytes]:
    """The context as .tar.gz, chunk by chunk; equal packages give equal bytes."""
    return gzipped(_tar(exported(package), f"{archive_name(package)}/"))


def archive_name(package: Package) -> str:
    """Without a suffix. Names of assets and versions are plain, so it is one for every system."""
    return f"{package.environment.asset.name}-{package.environment.version}"


def exported(package: Package) -> list[Entry]:
    """What an exported context holds: the base's own context too, when that is a Dockerfile."""
    found = entries(package, plan_of(package))
    context = package.environment.build_context_id
    return found + (_folder("base", storage.tree_path(context)) if context else [])


def gzipped(parts: Iterator[bytes]) -> Iterator[bytes]:
    press = zlib.compressobj(1, zlib.DEFLATED, GZIP)
    for part in parts:
        pressed = press.compress(part)
        if pressed:
            yield pressed
    yield press.flush()


def _tar(files: list[Entry], top: str) -> Iterator[bytes]:
    for entry in files:
        member = tarfile.TarInfo(top + entry.name)
        member.size, member.mode = entry.size, 0o755 if entry.executable else 0o644
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield from _content(entry, member.size)
        yield b"\0" * (-member.size % BLOCK)
    yield b"\0" * 2 * BLOCK


def _content(entry: Entry, size: int) -> Iterator[bytes]:
    if entry.path is None:
        yield entry.text.encode()
        return
    sent = 0
    with entry.path.open("rb") as stream:
        while part := stream.read(CHUNK):
            sent += len(part)
            yield part
    if sent != size:
        raise OSError(f"{entry.name} changed while it was sent")


def readme(package: Package) -> str:
    """How to build and run it."""
    name = image_name(package)
    ports, asked = {
        PackageServer.AZUREML_ONLINE: ((PORT,), f"curl -d @request.json http://localhost:{PORT}/score"),
        PackageServer.TRITON: (TRITON_PORTS, f"curl http://localhost:{TRITON_PORTS[0]}/v2/health/ready"),
        PackageServer.CUSTOM: (plan_of(package).ports, ""),
    }[PackageServer(package.server)]
    published = " ".join(f"-p {port}:{port}" for port in ports)
    build = [f"docker build -t {name} ."]
    environment = package.environment
    if environment.build_context_id:
        build.insert(0, f"docker build -t {name}-base -f base/{environment.dockerfile_path} base")
    tmp = "/tmp:exec" if package.server == PackageServer.TRITON else "/tmp"  # noqa: S108 -- a path in the container
    lines = [
        f"# {package}",
        "",
        f"Model {package.model} with its environment and its server. Nothing of Portway is needed to run it.",
        "",
        *(f"    {each}" for each in [*build, f"docker run --rm {published} {name}"]),
        "",
        f"It needs no rights: `docker run --rm --read-only --tmpfs {tmp} --cap-drop ALL {published} {name}`.",
    ]
    if asked:
        lines += ["", f"    {asked}"]
    if package.python and plan_of(package).packages:
        lines += ["", f"requirements.lock was resolved for Python {package.python}; our files are in {RUNTIME}."]
    return "\n".join(lines) + "\n"
