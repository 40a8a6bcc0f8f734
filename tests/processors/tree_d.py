#!/usr/bin/env python3
"""A tree_d processor as a user could write it: from the protocol's description, without the product.

The tree is binary, of 32-byte nodes; a node is the SHA-256 of its children with the two top bits of the
last byte cleared. The file holds the leaves, then each level up to the root.
"""

import hashlib
import json
import sys


def tree(leaves: bytes) -> bytes:
    level, out = [leaves[i : i + 32] for i in range(0, len(leaves), 32)], []
    while True:
        out += level
        if len(level) == 1:
            return b"".join(out)
        digests = [hashlib.sha256(level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
        level = [digest[:31] + bytes([digest[31] & 0x3F]) for digest in digests]


print("tree_d processor ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    task = request["task"]
    try:
        with open(task["staged_file"], "rb") as staged:
            nodes = tree(staged.read())
        with open(task["cache_dir"] + "/sc-02-data-tree-d.dat", "wb") as file:
            file.write(nodes)
        answer = {"id": request["id"], "err_msg": None, "output": True}
    except OSError as error:
        answer = {"id": request["id"], "err_msg": str(error), "output": None}
    print(json.dumps(answer), flush=True)
