"""Builds the product's images from the real Dockerfile with buildah, and keeps each until what it is made of changes.

The base is a Debian made here, and wheels come from a folder filled beforehand, and the build needs no index.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.markers import Marker

from tests.cluster.binaries import locked
from tests.cluster.errors import ClusterError, say
from tests.cluster.node import CTR, run
from tests.cluster.packages import SEARCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.cluster import Cluster

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "operator/deploy/Dockerfile"
LOCK = ROOT / "operator/deploy/transfer.lock"
LOCKS = (LOCK, ROOT / "operator/deploy/operator.lock")
"""What the images install. All of it is fetched for either: older buildahs also make stages that are not asked for."""

WHEEL_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "datacube_flows", "operator/datacube_operator")
TARGETS = ("transfer", "operator")

BASE_PACKAGES = ("git", "git-lfs", "python3", "python3-venv", "ca-certificates")
NOT_IN_BASE = ("doc", "man", "locale", "info")
"""Folders below /usr/share that slim images leave out."""

KEPT_ARCHIVES = 3
"""Of each target; more than one, since another run of the tests may be about to load an older one."""

KEPT_IMAGES = 40
"""How many images, those between the Dockerfile's lines included, are kept before all are thrown away."""

READS_IMAGES = ("from", "commit", "build", "push")
TRUST = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""Policy on signatures: the only images that are read here were made here."""


@dataclass(frozen=True)
class BuiltImage:
    """An image in an archive."""

    name: str
    """Its tag differs when anything that it is made of does."""

    archive: Path


def transfer_image(cluster: Cluster, cache: Path, environ: Mapping[str, str]) -> BuiltImage:
    """Returns the transfer image, built when that is needed, after it was loaded into the cluster."""
    return _loaded(cluster, build_image("transfer", cache, environ))


def operator_image(cluster: Cluster, cache: Path, environ: Mapping[str, str]) -> BuiltImage:
    """Returns the operator's image, built when that is needed, after it was loaded into the cluster."""
    return _loaded(cluster, build_image("operator", cache, environ))


def _loaded(cluster: Cluster, image: BuiltImage) -> BuiltImage:
    node = cluster.own_node(f"load {image.archive} into its nodes by its own means")
    if image.name not in node.run(*CTR, "images", "list", "--quiet").split():
        cluster.load_image(image.archive)
    return image


def build_image(target: str, cache: Path, environ: Mapping[str, str]) -> BuiltImage:
    """Returns the image of a target of the Dockerfile; takes half a minute when something changed, else no time.

    Args:
        target: One of `TARGETS`.
        cache: Keeps archives, the base and the wheels.
        environ: Where pip and apt find their own configuration.
    """
    folder = cache / "image"
    folder.mkdir(parents=True, exist_ok=True)
    key = _digest(_inputs())
    image = BuiltImage(f"datacube.test/{target}:{key}", folder / f"{target}-{key}.tar")
    with locked(folder / ".lock"):
        if not image.archive.exists():
            _build(image, target, folder, environ)
    return image


def _build(image: BuiltImage, target: str, folder: Path, environ: Mapping[str, str]) -> None:
    began = time.monotonic()
    base = _ensure_base(folder, environ)
    wheels = _ensure_wheels(folder, _python_of(base), environ)
    say(f"building {image.name}")
    with tempfile.TemporaryDirectory(prefix="datacube-image-") as scratch:
        context = _make_context(Path(scratch), environ)
        _Buildah(folder / "layers", environ).build(image, target, context, base, wheels)
    for old in sorted(folder.glob(f"{target}-*.tar"), key=lambda file: file.stat().st_mtime)[:-KEPT_ARCHIVES]:
        old.unlink()
    say(f"  {image.archive.stat().st_size / 1e6:.0f} MB, in {time.monotonic() - began:.0f} s")


@dataclass(frozen=True)
class _Buildah:
    """buildah with a store of its own, which keeps layers: a change of the sources builds the last of them only."""

    store: Path
    environ: Mapping[str, str]

    def build(self, image: BuiltImage, target: str, context: Path, base: Path, wheels: Path) -> None:
        """Writes the archive of the image."""
        self.store.mkdir(exist_ok=True)
        if self._run("images", "--all", "--quiet").count("\n") > KEPT_IMAGES:
            self._run("rmi", "--all", "--force")
        options = [
            "--layers",
            "--pull=never",
            f"--target={target}",
            f"--volume={wheels}:/wheels:ro",
            f"--tag={image.name}",
        ]
        values = {"BASE": self._ensure_base(base), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        options += [f"--build-arg={name}={value}" for name, value in values.items()]
        self._run("build", *options, f"--file={DOCKERFILE}", str(context))
        part = image.archive.with_suffix(".part")
        part.unlink(missing_ok=True)
        self._run("push", "--quiet", image.name, f"docker-archive:{part}:{image.name}")
        part.rename(image.archive)

    def _ensure_base(self, base: Path) -> str:
        """Returns the name of the base as an image."""
        name = f"localhost/{base.stem}"
        if name not in self._run("images", "--format={{.Name}}"):
            made = self._run("from", "scratch").strip()
            self._run("add", "--quiet", made, str(base), "/")
            self._run("commit", "--quiet", "--rm", made, name)
        return name

    def _run(self, verb: str, *arguments: str) -> str:
        places = [
            f"--root={self.store / 'root'}",
            f"--runroot={self.store / 'run'}",
            f"--storage-driver={_driver(self.store)}",
        ]
        own = {"BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(self._settings())}
        return _run(["buildah", *places, verb, *self._trust(verb), *arguments], {**self.environ, **own})

    def _settings(self) -> Path:
        """Keeps what buildah writes about networks, which it does not use here, out of the machine's own folders."""
        path = self.store / "containers.conf"
        path.write_text(f'[network]\nnetwork_config_dir = "{self.store / "networks"}"\n')
        return path

    def _trust(self, verb: str) -> list[str]:
        if verb not in READS_IMAGES:
            return []
        policy = self.store / "policy.json"
        policy.write_text(TRUST)
        return [f"--signature-policy={policy}"]


def _driver(folder: Path) -> str:
    """Overlays cannot be stacked on an overlay, which is what the disk of a container is."""
    return "vfs" if run("stat", "-f", "-c", "%T", str(folder)).strip() == "overlayfs" else "overlay"


def _inputs() -> Iterator[Path]:
    """All files that decide what an image holds."""
    yield from (DOCKERFILE, *LOCKS, Path(__file__))
    for name in WHEEL_SOURCES:
        path = ROOT / name
        yield from sorted(f for f in path.rglob("*") if f.is_file() and f.suffix != ".pyc") if path.is_dir() else [path]


def _digest(files: Iterator[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)}\0{file.stat().st_mode & 0o111}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _make_context(context: Path, environ: Mapping[str, str]) -> Path:
    """Makes the folder that the Dockerfile copies from: the locks, and a wheel built from the sources."""
    (context / LOCK.parent.relative_to(ROOT)).mkdir(parents=True)
    for lock in LOCKS:
        shutil.copy(lock, context / lock.relative_to(ROOT))
    uv = Path(sys.executable).with_name("uv")
    _run([str(uv), "build", "--quiet", "--wheel", "--out-dir", str(context / "dist"), str(ROOT)], environ)
    return context


def _ensure_base(folder: Path, environ: Mapping[str, str]) -> Path:
    """Returns the root file system of a small Debian, as a tar: this machine's release and package sources."""
    release = _release()
    wanted = repr((release, BASE_PACKAGES, NOT_IN_BASE))
    base = folder / f"base-{release}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}.tar"
    if not base.exists():
        say(f"making a base of Debian {release}: about half a minute, once")
        part = base.with_suffix(".part.tar")
        options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in NOT_IN_BASE]
        options += ["--quiet", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"]
        _run(["mmdebstrap", *options, release, str(part), *map(str, _package_sources())], environ)
        part.rename(base)
    return base


def _release() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None or not Path("/etc/debian_version").exists():
        raise ClusterError("the base of the image is made on Debian, and this is another system")
    return found[1]


def _package_sources() -> list[Path]:
    """Where this machine gets the system's packages from; none for what mmdebstrap knows itself."""
    known = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
    return [file for file in known if file.exists() and file.read_text().strip()]


def _python_of(base: Path) -> str:
    """The version of the base's Python, for which wheels are chosen."""
    with tarfile.open(base) as tar:
        found = (re.search(r"usr/bin/python(3\.\d+)$", member.name) for member in tar)
        return next(match[1] for match in found if match)


def _ensure_wheels(folder: Path, python: str, environ: Mapping[str, str]) -> Path:
    """Returns a folder with all wheels of the locks."""
    wanted = {lock.name: for_any_patch(lock.read_text(), python) for lock in LOCKS}
    digest = hashlib.sha256("".join(wanted.values()).encode()).hexdigest()[:8]
    wheels = folder / f"wheels-{python}-{digest}"
    if not wheels.exists():
        say("fetching the wheels of the images")
        part = wheels.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        pip += ["--no-deps", "--only-binary=:all:", f"--python-version={python}", f"--dest={part}"]
        for name, text in wanted.items():
            (part / name).write_text(text)
            _run([*pip, f"--requirement={part / name}"], environ)
        part.rename(wheels)
    return wheels


def for_any_patch(lock: str, python: str) -> str:
    """Returns what a lock asks for on any patch of a Python; pip would judge its markers by the one that runs here."""
    patches = [{"python_version": python, "python_full_version": f"{python}.{patch}"} for patch in (0, 99)]
    kept = []
    for entry in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        first, newline, hashes = entry.partition("\n")
        requirement, _, marker = first.removesuffix(" \\").partition(" ; ")
        if not marker or any(Marker(marker).evaluate(dict(patch)) for patch in patches):
            kept.append(f"{requirement} \\{newline}{hashes}" if hashes else entry)
    return "".join(kept)


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    """Runs it with the settings of pip, uv and the network that the caller has, and nothing else of its environment."""
    kept = {
        n: v
        for n, v in environ.items()
        if n.startswith(("PIP_", "UV_", "BUILDAH_", "SSL_")) or n.lower().endswith("_proxy")
    }
    env = {**kept, "PATH": SEARCH, "HOME": environ.get("HOME", "/root"), "TMPDIR": environ.get("TMPDIR", "/tmp")}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout
