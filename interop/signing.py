"""Sign and verify models with the reference implementation of model signing.

    python signing.py FILE

FILE is a JSON list of jobs, done in one process. A job has a model, a signature and,
to sign, private_key and perhaps certificate and chain (a list); to verify, public_key
or roots (a list). Prints a JSON list with "" for what went well, else the error.
"""

import json
import sys
from pathlib import Path

import model_signing


def sign(job):
    config = model_signing.signing.Config()
    if "certificate" in job:
        config.use_certificate_signer(
            private_key=job["private_key"], signing_certificate=job["certificate"], certificate_chain=job.get("chain", [])
        )
    else:
        config.use_elliptic_key_signer(private_key=job["private_key"], password=(job.get("password") or "").encode() or None)
    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[Path(job["signature"]).name])
    config.set_hashing_config(hashing).sign(job["model"], job["signature"])


def verify(job):
    config = model_signing.verifying.Config()
    if "roots" in job:
        config.use_certificate_verifier(certificate_chain=job["roots"])
    else:
        config.use_elliptic_key_verifier(public_key=job["public_key"])
    config.verify(Path(job["model"]), job["signature"])


def done(job):
    try:
        sign(job) if "private_key" in job else verify(job)
    except Exception as e:  # whatever the reference refuses with
        return f"{type(e).__name__}: {e}"
    return ""


if __name__ == "__main__":
    print(json.dumps([done(job) for job in json.loads(Path(sys.argv[1]).read_text())]))
