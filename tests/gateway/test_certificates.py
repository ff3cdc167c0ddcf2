"""The authority stays, the leaf is renewed in time, keys are private."""

import datetime as dt
import socket
import stat

from cryptography import x509

from apps.gateway.certificates import ensure_certificates

UTC = dt.UTC


def ensure(tmp_path, **more):
    return ensure_certificates(tmp_path / "certs", ca_pem=tmp_path / "public" / "ca.pem", **more)


def leaf(made):
    return x509.load_pem_x509_certificates(made.certificate.read_bytes())[0]


def later(days):
    return dt.datetime.now(UTC) + dt.timedelta(days=days)  # noqa: TID251


def test_names_times_and_modes(tmp_path):
    made = ensure(tmp_path, extra_names=["portway.example", "10.1.2.3"])
    names = leaf(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", socket.gethostname(), "portway.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "::1", "10.1.2.3"} <= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    assert (leaf(made).not_valid_after_utc - leaf(made).not_valid_before_utc).days == 397
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    assert 3650 <= (ca.not_valid_after_utc - ca.not_valid_before_utc).days <= 3653
    leaf(made).verify_directly_issued_by(ca)
    for key in (made.private_key, tmp_path / "certs" / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.ca.stat().st_mode) == 0o644


def test_nothing_is_touched_while_all_is_well(tmp_path):
    first = ensure(tmp_path)
    assert first.renewed
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not ensure(tmp_path).renewed
    assert not ensure(tmp_path, now=later(360)).renewed
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_renewal_keeps_the_authority(tmp_path):
    first = ensure(tmp_path)
    ca = first.ca.read_bytes()
    assert ensure(tmp_path, now=later(397 - 29)).renewed
    assert first.ca.read_bytes() == ca


def test_new_names_damage_and_loss_are_mended(tmp_path):
    first = ensure(tmp_path)
    assert ensure(tmp_path, extra_names=["new.example"]).renewed
    first.private_key.write_text("damaged")
    assert ensure(tmp_path, extra_names=["new.example"]).renewed
    first.ca.unlink()
    assert not ensure(tmp_path, extra_names=["new.example"]).renewed
    assert first.ca.is_file()
    (tmp_path / "certs" / "ca.key").unlink()
    assert ensure(tmp_path, extra_names=["new.example"]).renewed
    leaf(first).verify_directly_issued_by(x509.load_pem_x509_certificate(first.ca.read_bytes()))


def test_an_authority_near_its_end_is_replaced_before_a_leaf_would_outlive_it(tmp_path):
    made = ensure(tmp_path)
    before = made.ca.read_bytes()
    assert ensure(tmp_path, now=later(3653 - 300)).renewed
    assert made.ca.read_bytes() != before
