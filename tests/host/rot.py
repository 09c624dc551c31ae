#!/usr/bin/env python3
"""Damages files of a file system as a disk does that rots: by single bits, behind the file system's back.

    rot.py choose FOLDER COUNT SEED [PREFIX]    files below FOLDER by lot, one line each: BYTE BIT PATH
    rot.py flip DEVICE                          flips the bits that standard input names

A file below `.phobos` is chosen only where PREFIX says so. The device must not be mounted when its bits are flipped.
"""
import fcntl, os, random, struct, sys

FIBMAP, FIGETBSZ = 1, 2


def choose(folder, count, seed, prefix=""):
    random.seed(seed)
    files = []
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(at, name)
            inside = os.path.relpath(path, folder)
            wanted = inside.startswith(prefix) if prefix else not inside.startswith((".phobos", "lost+found"))
            wanted = wanted and inside.isprintable()
            if wanted and os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path):
                files.append((path, inside))
    for path, inside in sorted(random.sample(files, min(count, len(files)))):
        byte = random.randrange(os.path.getsize(path))
        with open(path, "rb") as file:
            size = struct.unpack("i", fcntl.ioctl(file, FIGETBSZ, struct.pack("i", 0)))[0]
            block = struct.unpack("i", fcntl.ioctl(file, FIBMAP, struct.pack("i", byte // size)))[0]
        if block:
            print(block * size + byte % size, random.randrange(8), inside)


def flip(device):
    disk = os.open(device, os.O_RDWR)
    for line in sys.stdin:
        at, bit, _ = line.split(" ", 2)
        byte = os.pread(disk, 1, int(at))[0]
        os.pwrite(disk, bytes([byte ^ 1 << int(bit)]), int(at))
    os.fsync(disk)
    os.close(disk)


if sys.argv[1] == "choose":
    choose(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
else:
    flip(sys.argv[2])
