"""The hub's cache as huggingface_hub sees it, for test/golden/hubCache.test.ts, which sets HF_HOME and HF_ENDPOINT.

    hub_cache.py read REPO FILE     what Python finds there without asking the hub, as JSON
    hub_cache.py fetch REPO         fetches the whole repository into it
"""

import json
import sys

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache


def read(repo, file):
    scan = scan_cache_dir()
    return {
        "snapshot": snapshot_download(repo, local_files_only=True),
        "file": hf_hub_download(repo, file, local_files_only=True),
        "try": try_to_load_from_cache(repo, file),
        "warnings": [str(warning) for warning in scan.warnings],
        "files": sorted(f.file_name for r in scan.repos for revision in r.revisions for f in revision.files),
        "refs": sorted(ref for r in scan.repos for ref in r.refs),
        "size": scan.size_on_disk,
    }


if __name__ == "__main__":
    command, *args = sys.argv[1:]
    print(json.dumps(read(*args) if command == "read" else {"snapshot": snapshot_download(*args)}))
