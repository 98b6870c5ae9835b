"""What the real huggingface_hub does, one JSON command at a time.

Each line of standard input is {"do": NAME, ...}; each answer is a line on
standard output, {"ok": RESULT} or {"error": CLASS, "text": MESSAGE}. One process
serves many tests, as the interpreter takes its time to start.
"""

import json
import os
import sys

import huggingface_hub as hub
from huggingface_hub.utils import WeakFileLock

locks = {}


def download(repo, cache, revision=None, token=None, local=False, only=None):
    folder = hub.snapshot_download(repo, cache_dir=cache, revision=revision, token=token, local_files_only=local, allow_patterns=only)
    return folder


def one(repo, name, cache, token=None):
    return hub.hf_hub_download(repo, name, cache_dir=cache, token=token)


def scan(cache):
    info = hub.scan_cache_dir(cache)
    return {
        "warnings": [str(w) for w in info.warnings],
        "incomplete": [os.path.basename(f.file_path) for f in info.incomplete_files],
        "repos": {
            r.repo_id: {
                "refs": {ref: v.commit_hash for ref, v in r.refs.items()},
                "files": sorted(f.file_name for rev in r.revisions for f in rev.files),
                "size": r.size_on_disk,
            }
            for r in info.repos
        },
    }


def upload(repo, folder, token, private=False, create_pr=False, message="upload", create=True):
    api = hub.HfApi(token=token)
    if create:
        api.create_repo(repo, private=private, exist_ok=True)
    done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, create_pr=create_pr)
    return {"oid": done.oid, "pr": done.pr_url}


def listing(repo, token=None):
    return sorted([f.path, f.size, f.blob_id, f.lfs.sha256 if f.lfs else None]
                  for f in hub.HfApi(token=token).list_repo_tree(repo, recursive=True) if hasattr(f, "blob_id"))


def whoami(token):
    return hub.HfApi(token=token).whoami()["name"]


def cached(repo, name, cache):
    found = hub.try_to_load_from_cache(repo, name, cache_dir=cache)
    return found if isinstance(found, str) else None


def lock(path):
    held = WeakFileLock(path)
    held.__enter__()
    locks[path] = held


def unlock(path):
    locks.pop(path).__exit__(None, None, None)


def version():
    return hub.__version__


DO = {f.__name__: f for f in (download, one, scan, upload, listing, whoami, cached, lock, unlock, version)}

if __name__ == "__main__":
    hub.utils.disable_progress_bars()
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            answer = {"ok": DO[ask.pop("do")](**ask)}
        except Exception as e:  # the test wants to know which
            answer = {"error": type(e).__name__, "text": str(e)}
        print(json.dumps(answer), flush=True)
