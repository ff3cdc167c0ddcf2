"""The installation's own certificate authority and the front door's certificate."""

import datetime as dt
import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3653
LEAF_DAYS = 397
RENEW_DAYS = 30
BACKDATED = dt.timedelta(hours=1)
COMMON_NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where everything is, and whether this call wrote a new leaf."""

    ca: Path
    certificate: Path
    private_key: Path
    names: tuple[str, ...]
    expires: dt.datetime
    renewed: bool


def ensure_certificates(
    folder: Path, *, ca_pem: Path, extra_names: Iterable[str] = (), now: dt.datetime | None = None
) -> Certificates:
    """Leave a valid pair in `folder` and the authority at `ca_pem`; renew only what is missing, changed or nearly over.

    Clients have pinned the authority, so it is replaced only when it is unreadable or runs out before a leaf would.
    """
    now = now or dt.datetime.now(dt.UTC)  # noqa: TID251  no Django here
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_path, crt_path = folder / "tls.key", folder / "tls.crt"
    names = _names(extra_names)
    ca_key, ca_crt = _authority(folder / "ca.key", folder / "ca.crt", now)
    ca_bytes = ca_crt.public_bytes(serialization.Encoding.PEM)
    if not ca_pem.is_file() or ca_pem.read_bytes() != ca_bytes:
        _write(ca_pem, ca_bytes, 0o644)
    leaf = _usable(crt_path, key_path, ca_crt, names, now)
    renewed = leaf is None
    if leaf is None:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf(key, names, ca_key, ca_crt, now)
        # key first: Envoy refuses the moment of mismatch and keeps the old pair until the chain has followed
        _write(key_path, _key_bytes(key), 0o600)
        _write(crt_path, leaf.public_bytes(serialization.Encoding.PEM) + ca_bytes, 0o644)
    return Certificates(ca_pem, crt_path, key_path, names, leaf.not_valid_after_utc, renewed)


def expiry(folder: Path) -> dt.datetime | None:
    """When the front door's certificate runs out; None when there is none to read."""
    try:
        return x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def _names(extra: Iterable[str]) -> tuple[str, ...]:
    host = socket.gethostname()
    return tuple(dict.fromkeys(name for name in ("localhost", host, "127.0.0.1", "::1", *extra) if name))


def _authority(key_path: Path, crt_path: Path, now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = _load_key(key_path)
        crt = x509.load_pem_x509_certificate(crt_path.read_bytes())
        long_enough = crt.not_valid_after_utc > now + dt.timedelta(days=LEAF_DAYS)
        if crt.public_key() == key.public_key() and long_enough:
            return key, crt
    except (OSError, ValueError, TypeError):
        pass
    key = ec.generate_private_key(ec.SECP256R1())
    crt = _ca(key, now)
    _write(key_path, _key_bytes(key), 0o600)
    _write(crt_path, crt.public_bytes(serialization.Encoding.PEM), 0o644)
    return key, crt


def _ca(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    name = _subject(f"Portway local CA {socket.gethostname()}")
    usage = _usage(sign=False, certificates=True)
    return (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    now: dt.datetime,
) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(_subject(names[0]), ca.subject, key.public_key(), now, LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True, certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + dt.timedelta(days=days))
    )


def _usage(*, sign: bool, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Portway")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common[:COMMON_NAME_MAX])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usable(
    crt_path: Path, key_path: Path, ca: x509.Certificate, names: tuple[str, ...], now: dt.datetime
) -> x509.Certificate | None:
    try:
        leaf = x509.load_pem_x509_certificate(crt_path.read_bytes())
        key = _load_key(key_path)
        leaf.verify_directly_issued_by(ca)
        held = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001  whatever is wrong with the old pair, the answer is a new one
        return None
    fresh = leaf.not_valid_before_utc <= now and leaf.not_valid_after_utc - now >= dt.timedelta(days=RENEW_DAYS)
    same = set(held) == {_general(name) for name in names}
    return leaf if fresh and same and leaf.public_key() == key.public_key() else None


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not a key of ours")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """The whole file or none of it, and a key never readable by others, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
