"""Reading a Dockerfile and packing its build context. Plain functions over text and folders; nothing is run."""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from docker.utils.build import exclude_paths

LONGEST = 1_000_000  # bytes of a Dockerfile
LONGEST_PATH = 400
LONGEST_JOINED = 100_000  # characters of an instruction with its continued lines
LONGEST_NAME = 1000
MOST_PATTERNS, MOST_STARS = 500, 6  # each pattern is tried on each file
NAMED = 3  # words: image AS name
INSTRUCTIONS = frozenset(
    """
    ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME
    WORKDIR
    """.split()
)
ESCAPE = r"^[^\S\n]*#[^\S\n]*escape[^\S\n]*=[^\S\n]*[^\\\s]"
STRANGE = re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|{ESCAPE}", re.MULTILINE | re.IGNORECASE)
HIDDEN = re.compile(r"\s*(?:FROM\s|(?:COPY|ADD|ONBUILD)\b.*--from)", re.IGNORECASE)
CA_NAME = ".portway-ca.pem"
CA_TARGET = "/etc/portway/ca.pem"
CA_READERS = (
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
VARIABLE = re.compile(r"\$(?:\{(?P<name>\w+)(?::(?P<sign>[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))")
FLAG = re.compile(r"--(\w+)(?:=(\S*))?\s+")


class ContextError(ValueError):
    """The context or its Dockerfile cannot be used; the text says why."""


@dataclass(frozen=True)
class Statement:
    line: int  # where it begins, from 1
    end: int  # the line after it
    word: str
    rest: str


def read(root: Path, dockerfile: str) -> str:
    """The Dockerfile's text. Raises ContextError when it is not a file of the context, or no text."""
    parts = PurePosixPath(dockerfile).parts
    if not parts or dockerfile.startswith("/") or ".." in parts or not dockerfile.isprintable():
        raise ContextError(f"the path of the Dockerfile must lie in the build context, not {dockerfile!r}")
    path = root / dockerfile
    if len(dockerfile) > LONGEST_PATH or not path.is_file() or path.is_symlink():
        raise ContextError(f"there is no {dockerfile} in the build context")
    if path.stat().st_size > LONGEST:
        raise ContextError(f"{dockerfile} is longer than {LONGEST} bytes")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ContextError(f"{dockerfile} is not UTF-8 text") from None


def statements(text: str) -> Iterator[Statement]:
    """Its instructions, with continued lines joined, as the classic builder reads them.

    What builders read differently is refused, so that no instruction is ever one for the engine and none for us.
    Raises ContextError.
    """
    strange = STRANGE.search(text)
    if strange:
        at = text.count("\n", 0, strange.start()) + 1
        raise ContextError(f"line {at}: control characters and other escape characters are not supported")
    begun, joined = 0, ""
    lines = text.split("\n")
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip(" \t\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if begun and HIDDEN.match(line):
            raise ContextError(f"line {number}: a continued line cannot begin with an instruction that names an image")
        begun = begun or number
        joined += line.removesuffix("\\")
        if len(joined) > LONGEST_JOINED:
            reason = f"the instruction is longer than {LONGEST_JOINED} characters; put what it does into a file"
            raise ContextError(f"line {begun}: {reason}")
        if line.endswith("\\"):
            continue
        yield _statement(begun, number + 1, joined)
        begun, joined = 0, ""
    if begun:
        yield _statement(begun, len(lines) + 1, joined)


def _statement(line: int, end: int, text: str) -> Statement:
    word, *rest = re.split(r"[ \t\r]+", text.strip(), maxsplit=1)
    if word.upper() not in INSTRUCTIONS:
        raise ContextError(f"line {line}: there is no instruction {word[:40]!r}")
    return Statement(line, end, word.upper(), rest[0] if rest else "")


def images(text: str, arguments: Mapping[str, str]) -> list[str]:
    """The images it takes from elsewhere, in order: of FROM and of `COPY --from`, without its own stages.

    Raises:
        ContextError: one is named by a variable that has no value here, or there is no FROM.
    """
    values: dict[str, str] = {}
    stages: list[str] = []
    found: list[str] = []
    for each in statements(text):
        _check_added(each)
        if each.word == "ARG" and not stages:
            name, _, default = each.rest.partition("=")
            values[name.strip()] = arguments.get(name.strip(), default.strip().strip("\"'"))
        elif each.word == "FROM":
            words = FLAG.sub("", each.rest + " ").split()
            name = _filled(words[0] if words else "", values, each.line)
            if name != "scratch" and name.lower() not in stages:
                found.append(name)
            stages.append(words[2].lower() if words[1:2] and words[1].upper() == "AS" and len(words) == NAMED else "")
        elif "--" in each.rest and each.word in {"COPY", "ADD", "ONBUILD"}:
            found += _copied_from(each, stages)
    if not stages:
        raise ContextError("the Dockerfile has no FROM")
    return list(dict.fromkeys(found))


def check_triggers(image: str, triggers: Sequence[str]) -> None:
    """What an image asks of whoever builds on it follows the same rules. Raises ContextError."""
    try:
        for each in (each for trigger in triggers for each in statements(trigger)):
            if each.word == "ONBUILD" or "--from" in each.rest.lower():
                raise ContextError("--from is not supported there")  # noqa: TRY301
            _check_added(each)
            _copied_from(each, [])
    except ContextError as error:
        reason = f"image {image} has ONBUILD instructions that cannot be used: {error}; take a base image without them"
        raise ContextError(reason) from None


def _check_added(each: Statement) -> None:
    """The engine fetches addresses itself, from the machine's own network. What may be one is refused."""
    words = each.rest.split()
    if each.word == "ONBUILD":
        words = words[1:] if words[:1] and words[0].upper() == "ADD" else []
    elif each.word != "ADD":
        return
    while words and words[0].startswith("--"):
        words.pop(0)
    sources = words if words and words[0].startswith("[") else words[:-1]
    text = re.sub("[\"']", "", " ".join(sources))
    if "://" in text or "git@" in text or "$" in text or "\\" in text:
        reason = "ADD takes files of the build context only: no address, variable or backslash in a source"
        raise ContextError(f"line {each.line}: {reason}; fetch with RUN curl or RUN pip instead")


def _copied_from(each: Statement, stages: list[str]) -> list[str]:
    """The images of `--from`, which may also be the name or the number of a stage."""
    strange = any(word.startswith("--") and set(word) & set("\"'\\$") for word in each.rest.split())
    if strange or (each.word == "ONBUILD" and "--from" in each.rest.lower()):
        raise ContextError(f"line {each.line}: --from takes a plain name, and not in ONBUILD")
    names = [value for flag, value in FLAG.findall(each.rest + " ") if flag.lower() == "from"]
    known = {*stages, *(str(number) for number in range(len(stages)))} - {""}
    return [name for name in names if name.lower() not in known]


def _filled(text: str, values: Mapping[str, str], line: int) -> str:
    def value(match: re.Match[str]) -> str:
        known = values.get(match["name"] or match["plain"], "")
        if match["sign"] == "+":
            return match["word"] if known else ""
        return known or (match["word"] if match["sign"] == "-" else "")

    name = VARIABLE.sub(value, text).strip("\"'") if len(text) <= LONGEST_NAME else ""
    text = text[:LONGEST_PATH]
    if not name or "$" in name:
        raise ContextError(
            f"line {line}: the image {text!r} has no name here; give its ARG a value above the first FROM"
        )
    return name


def prepared(text: str, *, ca: bool, arguments: Mapping[str, str]) -> str:
    """The text with our lines behind each FROM: the bundle of certificates, and the arguments RUN shall see.

    They are arguments, so nothing of them stays in the environment of the image.
    """
    lines = [f"COPY {CA_NAME} {CA_TARGET}", *(f"ARG {name}={CA_TARGET}" for name in CA_READERS)] if ca else []
    lines += [f"ARG {name}" for name in arguments]
    if not lines:
        return text
    out = text.removesuffix("\n").split("\n")
    for each in reversed([each for each in statements(text) if each.word == "FROM"]):
        out[each.end - 1 : each.end - 1] = lines
    return "\n".join(out) + "\n"


def pack(root: Path, dockerfile: str, text: str, into: IO[bytes], *, ca: bytes, most: int) -> int:
    """Write the context as a tar that is equal for equal content; its bytes.

    `text` takes the place of the Dockerfile, `ca` is added. `.dockerignore` counts.
    Raises ContextError for links that leave the context, special files, and more than `most` bytes.
    """
    size = 0
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in _members(root, dockerfile):
            path = root / name
            member, content = _member(root, path, name)
            if name == str(PurePosixPath(dockerfile)):
                content = BytesIO(text.encode())
                member.size = len(text.encode())
            size += member.size
            if size > most:
                raise ContextError(f"the build context is larger than {most // 2**20} MiB")
            if content is None and member.isfile():
                with path.open("rb") as stream:
                    tar.addfile(member, stream)
            else:
                tar.addfile(member, content)
        if ca:
            member = _plain(tarfile.TarInfo(CA_NAME))
            member.size, member.mode = len(ca), 0o644
            tar.addfile(member, BytesIO(ca))
    return size


def _members(root: Path, dockerfile: str) -> list[str]:
    ignore = root / ".dockerignore"
    lines: list[str] = []
    if ignore.is_file() and not ignore.is_symlink() and ignore.stat().st_size <= LONGEST:
        lines = [line.strip() for line in ignore.read_text("utf-8", "replace").splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    if len(patterns) > MOST_PATTERNS or any(
        len(each) > LONGEST_PATH or each.count("*") > MOST_STARS for each in patterns
    ):
        raise ContextError(f".dockerignore has more than {MOST_PATTERNS} lines, or a line with too many stars")
    names = exclude_paths(str(root), patterns, dockerfile=dockerfile) if patterns else _all(root)
    return sorted({str(PurePosixPath(name)) for name in names} - {"."})


def _all(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*")]


def _member(root: Path, path: Path, name: str) -> tuple[tarfile.TarInfo, BytesIO | None]:
    if name == CA_NAME:
        raise ContextError(f"{name} is a name of Portway's; take another one")
    member = _plain(tarfile.TarInfo(name))
    found = path.lstat()
    member.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISLNK(found.st_mode):
        target = path.readlink()
        if target.is_absolute() or not path.resolve().is_relative_to(root.resolve()):
            raise ContextError(f"{name} is a link to {target}, which is outside of the build context")
        member.type, member.linkname = tarfile.SYMTYPE, str(target)
    elif stat.S_ISDIR(found.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISREG(found.st_mode):
        member.size = found.st_size
    else:
        raise ContextError(f"{name} is a special file")
    return member, None


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
