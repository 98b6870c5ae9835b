"""Write the fixtures of package oms: keys, certificates, a small model, and what the
reference implementation of model signing signs of it.

    python signing_fixtures.py OUT

OUT is oms/testdata. The keys are new at every run: they protect nothing.
"""

import argparse
import datetime
import json
import shutil
import subprocess
from pathlib import Path

import model_signing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PASSPHRASE = b"correct horse"

# The order of these names differs between comparing texts and comparing the
# parts of paths.
MODEL = {
    "config.json": '{"model_type": "none"}\n',
    "weights.bin": bytes(range(256)) * 40,
    "a-b/x.txt": "x\n",
    "a/y.txt": "y\n",
    "empty.txt": "",
    "modèle.txt": "é\n",
    ".gitattributes": "# ignored\n",
}


def pem(key, form=serialization.PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption())


def public(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_keys(out):
    out.mkdir(parents=True)
    keys = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(), "other": ec.SECP256R1(), "k256": ec.SECP256K1(), "p224": ec.SECP224R1()}
    keys = {name: ec.generate_private_key(curve) for name, curve in keys.items()}
    keys["ed25519"] = ed25519.Ed25519PrivateKey.generate()
    keys["rsa"] = rsa.generate_private_key(65537, 2048)
    for name, key in keys.items():
        (out / f"{name}.pem").write_bytes(pem(key))
        (out / f"{name}.pub.pem").write_bytes(public(key))
    key = keys["p256"]
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    (out / "p256-sec1.pem").write_bytes(pem(key, traditional))
    encryption = serialization.BestAvailableEncryption(PASSPHRASE)
    (out / "p256-encrypted.pem").write_bytes(pem(key, encryption=encryption))
    (out / "p256-old.pem").write_bytes(pem(key, traditional, encryption))
    write_openssl_keys(out)
    return keys


def write_openssl_keys(out):
    """The key p256 in other forms that OpenSSL writes."""

    def openssl(*args):
        return subprocess.run(["openssl", *args], check=True, capture_output=True).stdout

    def encrypted(name, *how):
        path = out / f"p256-{name}.pem"
        openssl("pkcs8", "-topk8", "-in", str(out / "p256.pem"), "-out", str(path), "-passout", f"pass:{PASSPHRASE.decode()}", *how)

    encrypted("scrypt", "-scrypt", "-scrypt_N", "1024", "-v2", "aes-192-cbc")
    encrypted("sha1", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1")
    encrypted("sha512", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512")
    encrypted("3des", "-v2", "des3")
    params = openssl("ecparam", "-name", "prime256v1")
    (out / "p256-params.pem").write_bytes(params + (out / "p256-sec1.pem").read_bytes())


def certificate(name, key, issuer, issuer_key, years, *, ca=False, usage=True, extended=()):
    """A certificate of key, valid from the first year to the last."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    build = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(years[0], 1, 1))
        .not_valid_after(datetime.datetime(years[1], 1, 1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=usage and not ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=not usage, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )
    if extended:
        build = build.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    return build.sign(issuer_key, hashes.SHA256())


def write_certificates(out, keys):
    out.mkdir(parents=True)
    own = {n: ec.generate_private_key(ec.SECP256R1()) for n in ("root", "intermediate", "other-root")}
    long, code = (2000, 2100), [ExtendedKeyUsageOID.CODE_SIGNING]
    certs = {}
    certs["root"] = certificate("Test root", own["root"], None, own["root"], long, ca=True)
    certs["other-root"] = certificate("Other root", own["other-root"], None, own["other-root"], long, ca=True)
    certs["intermediate"] = certificate("Test intermediate", own["intermediate"], certs["root"], own["root"], long, ca=True)

    def leaf(name, years=long, key="p256", **more):
        return certificate(name, keys[key], certs["intermediate"], own["intermediate"], years, **more)

    certs["leaf"] = leaf("Publisher", extended=code)
    certs["leaf-p384"] = leaf("Publisher 384", key="p384")
    certs["expired"] = leaf("Publisher of 2010", (2010, 2011), extended=code)
    certs["future"] = leaf("Publisher of 2090", (2090, 2091), extended=code)
    certs["server"] = leaf("server.example", extended=[ExtendedKeyUsageOID.SERVER_AUTH])
    certs["useless"] = leaf("Agreement only", usage=False)
    for name, c in certs.items():
        (out / f"{name}.pem").write_bytes(c.public_bytes(serialization.Encoding.PEM))


def write_model(out):
    for name, content in MODEL.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def sign(out):
    """What the reference signs, with keys, certificates and other options."""
    model, keys, certs = out / "model", out / "keys", out / "certificates"
    signed = out / "signed"
    signed.mkdir(parents=True)

    def config(ignore=(), shards=0):
        hashing = model_signing.hashing.Config()
        if shards:
            hashing.use_shard_serialization(shard_size=shards)
        hashing.set_ignored_paths(paths=[Path("model.sig"), *ignore])
        return model_signing.signing.Config().set_hashing_config(hashing)

    def key(name):
        return {"private_key": keys / f"{name}.pem"}

    for name in ("p256", "p384", "p521"):
        config().use_elliptic_key_signer(**key(name)).sign(model, signed / f"{name}.sig")
    config().use_elliptic_key_signer(**key("p256")).sign(model / "config.json", signed / "file.sig")
    config([Path("a")]).use_elliptic_key_signer(**key("p256")).sign(model, signed / "ignoring.sig")
    config(shards=1000).use_elliptic_key_signer(**key("p256")).sign(model, signed / "shards.sig")
    for name, leaf, with_key in (("certificate", "leaf", "p256"), ("certificate-p384", "leaf-p384", "p384"), ("expired", "expired", "p256")):
        config().use_certificate_signer(
            **key(with_key), signing_certificate=certs / f"{leaf}.pem", certificate_chain=[certs / "intermediate.pem"]
        ).sign(model, signed / f"{name}.sig")
    # A keyless bundle has its certificate in another field, and log entries.
    keyless = json.loads((signed / "certificate.sig").read_text())
    chain = keyless["verificationMaterial"].pop("x509CertificateChain")["certificates"]
    keyless["verificationMaterial"]["certificate"] = chain[0]
    keyless["verificationMaterial"]["tlogEntries"] = [{"logIndex": "1"}]
    (signed / "keyless.sig").write_text(json.dumps(keyless))


def make(out):
    for part in ("keys", "certificates", "model", "signed"):
        shutil.rmtree(out / part, ignore_errors=True)
    write_certificates(out / "certificates", write_keys(out / "keys"))
    write_model(out / "model")
    sign(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
