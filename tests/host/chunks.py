"""Damages the data of a file's chunk in a Borg repository: chunks.py choose|flip|forge|undo REPOSITORY.

`choose` prints a segment, an entry's offset and length, by the seed that follows; the other words read that line. `flip` turns a bit
of the chunk, whose checksum then tells; `forge` turns it and makes the checksum true again; `undo` puts back what was there.
"""

import os
import random
import struct
import sys
import zlib

PUT, HEADER = 0, struct.Struct("<IIB")


def entries(path):
    """Offset and length of each PUT."""
    with open(path, "rb") as file:
        data = file.read()
    offset = 8
    while offset + HEADER.size <= len(data):
        _, size, tag = HEADER.unpack_from(data, offset)
        if tag == PUT:
            yield offset, size
        offset += size


def choose(repository, seed):
    """A chunk of content: no chunk of metadata is as long, and none of the archives' lists."""
    found = []
    for folder, _, names in sorted(os.walk(os.path.join(repository, "data"))):
        for name in sorted(names, key=int):
            path = os.path.join(folder, name)
            found += [(os.path.relpath(path, repository), *entry) for entry in entries(path) if entry[1] > 20000]
    print(*random.Random(seed).choice(found))


def change(repository, how):
    """Turns one bit in the middle of the chunk, and the checksum where it is to be true."""
    name, offset, size = sys.stdin.read().split()
    offset, size = int(offset), int(size)
    with open(os.path.join(repository, name), "r+b") as file:
        file.seek(offset)
        entry = bytearray(file.read(size))
        if how == "undo":
            with open(repository.replace("/", "_") + ".kept", "rb") as kept:
                entry = bytearray(kept.read())
        else:
            with open(repository.replace("/", "_") + ".kept", "wb") as kept:
                kept.write(entry)
            entry[size // 2] ^= 1
            if how == "forge":
                entry[:4] = struct.pack("<I", zlib.crc32(entry[4:]))
        file.seek(offset)
        file.write(entry)


if sys.argv[1] == "choose":
    choose(sys.argv[2], sys.argv[3])
else:
    change(sys.argv[2], sys.argv[1])
