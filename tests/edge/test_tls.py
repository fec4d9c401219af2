"""HTTPS at the edge, with real clients: whom they trust, what the edge asks of them, a certificate that changes."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server.edge.routes import Timeouts
from server.edge.tls import CERTIFICATE_LASTS, Certificate, TlsError, check_authority
from server.settings import Settings, SettingsError, load
from tests.edge.conftest import Edge, eventually, started, variant

QUICK = Timeouts(body=0.5)


def made(folder: Path, *names: str) -> Certificate:
    found = Certificate(folder, None, None, ("localhost", "127.0.0.1", *names))
    found.renew()
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(certificate: Certificate) -> Iterator[Edge]:
    with started(QUICK, certificate=certificate.bundle) as edge:
        edge.apply(variant("a", edge.replica("a")))
        yield edge


def trusting(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.authority))


def ask(edge: Edge, context: ssl.SSLContext, host: str = "127.0.0.1") -> httpx.Response:
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.post(f"https://{host}:{edge.config.port}/endpoints/a/invocations", content=b"{}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_client_that_trusts_the_authority_is_answered(secure: Edge, certificate: Certificate, host: str) -> None:
    answer = ask(secure, trusting(certificate), host)
    assert (answer.status_code, answer.json()["me"]) == (200, "a")
    assert answer.json()["headers"]["x-forwarded-proto"] == "https"


def test_one_that_does_not_is_not(secure: Edge) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        ask(secure, ssl.create_default_context())


def test_old_tls_and_plain_http_are_refused(secure: Edge, certificate: Certificate) -> None:
    old = trusting(certificate)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(httpx.TransportError):
        ask(secure, old)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{secure.config.port}/ping", trust_env=False)


def test_a_client_cannot_say_that_it_came_by_https(routed: Edge) -> None:
    said = routed.http.post("/endpoints/a/invocations", b"{}", {"x-forwarded-proto": "https"})
    assert said["headers"]["x-forwarded-proto"] == "http"


def test_clients_show_certificates_where_they_are_asked_for(certificate: Certificate, tmp_path: Path) -> None:
    friends = made(tmp_path / "friends")
    with started(QUICK, certificate=certificate.bundle, client_authority=friends.authority) as edge:
        edge.apply(variant("a", edge.replica("a")))
        stranger = trusting(certificate)
        with pytest.raises(httpx.TransportError):
            ask(edge, stranger)
        friend = trusting(certificate)
        friend.load_cert_chain(_client_certificate(friends, tmp_path))
        assert ask(edge, friend).status_code == 200
        wrong = trusting(certificate)
        wrong.load_cert_chain(certificate.bundle)
        with pytest.raises(httpx.TransportError):
            ask(edge, wrong)


def _client_certificate(authority: Certificate, folder: Path) -> Path:
    """A certificate for clients, signed by the authority."""
    key = serialization.load_pem_private_key((authority.folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(authority.authority.read_bytes())
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a friend")]))
        .issuer_name(issuer.subject).public_key(own.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "friend.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


def served(edge: Edge) -> bytes:
    """The certificate that the edge shows."""
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", edge.config.port), 5) as plain,
        blind.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.getpeercert(True) or b""


def test_a_new_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    certificate = made(tmp_path)
    with started(QUICK, certificate=certificate.bundle) as edge:
        before = served(edge)
        assert not certificate.renew(), "the one there is good"
        assert certificate.renew(datetime.now(UTC) + CERTIFICATE_LASTS - timedelta(days=29))
        assert edge.client.reread()
        eventually(lambda: served(edge) != before)
        assert edge.process.poll() is None


def test_ones_own_certificate_is_taken_and_followed(tmp_path: Path) -> None:
    source = made(tmp_path / "source").bundle
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    text = source.read_text()
    chain.write_text(text[: text.index("-----BEGIN PRIVATE")])
    key.write_text(text[text.index("-----BEGIN PRIVATE") :])
    own = Certificate(tmp_path / "own", chain, key, ())
    assert (own.renew(), own.renew()) == (True, False)
    assert own.bundle.stat().st_mode & 0o777 == 0o600
    together = Certificate(tmp_path / "together", source, None, ())
    assert together.renew()
    renewed = made(tmp_path / "renewed").bundle.read_text()
    source.write_text(renewed)
    assert together.renew()
    assert together.bundle.read_text() == renewed


def test_a_made_certificate_gets_new_names_from_the_same_authority(tmp_path: Path) -> None:
    first = made(tmp_path)
    authority = first.authority.read_text()
    more = made(tmp_path, "hearth.example.com")
    assert more.authority.read_text() == authority
    found = x509.load_pem_x509_certificate(more.bundle.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "hearth.example.com" in names.get_values_for_type(x509.DNSName)


def test_what_cannot_be_used_is_named(tmp_path: Path, certificate: Certificate) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    other = made(tmp_path / "other")
    for own, key, words in (
        (tmp_path / "none.pem", None, "none.pem: No such file"),
        (empty, None, "empty.pem: no certificate"),
        (certificate.authority, None, "ca.pem: no private key"),
        (certificate.bundle, other.bundle, "is not the key of"),
    ):
        with pytest.raises(TlsError, match=words):
            Certificate(tmp_path / "own", own, key, ()).renew()
    with pytest.raises(TlsError, match=r"empty\.pem"):
        check_authority(empty)


def test_settings_that_do_not_go_together_are_refused() -> None:
    assert load(None, {"HEARTH_TLS": "true"}).url == "https://127.0.0.1:8080"
    assert Settings(tls_certificate=Path("c.pem")).secure
    for name in ("HEARTH_TLS_KEY", "HEARTH_TLS_CLIENT_CA"):
        with pytest.raises(SettingsError, match="tls_"):
            load(None, {name: "x.pem"})
