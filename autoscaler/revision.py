"""Revisions: what makes one pod different from another, as a short hash."""

import hashlib
import json

from autoscaler.template import PodTemplate

LENGTH = 8  # 32 bits: two versions of one service meet by chance once in four thousand million


def revision(template: PodTemplate) -> str:
    """Pure. Eight hexadecimal digits that change with whatever a running pod cannot take on.

    Replica counts, time-outs, traffic shares, labels and annotations are not in it: they change without a
    restart.
    """
    content = {
        "runtime": template.runtime,
        "container": template.container.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "storage": template.storage_uri,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
