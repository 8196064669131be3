"""What disk and loopback allow a copy: files are read directly, sent over loopback, written directly to other files and synced every 4 MiB.

Usage: disk-to-disk.py DIRECTORY [STREAMS [GIGABYTES_OF_EACH]]. Prints the rate of all streams together. See README.md.
"""

import mmap
import multiprocessing
import os
import socket
import sys
import time

PIECE_BYTES = 512 << 10
SYNC_BYTES = 4 << 20


def open_direct(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)


def fill(path: str, size_bytes: int) -> None:
    file, block = open_direct(path), mmap.mmap(-1, SYNC_BYTES)
    block.write(os.urandom(SYNC_BYTES))
    for at in range(0, size_bytes, SYNC_BYTES):
        os.pwrite(file, block, at)
    os.fsync(file)


def send(path: str, size_bytes: int, port: int) -> None:
    file, piece = open_direct(path), mmap.mmap(-1, PIECE_BYTES)
    with socket.create_connection(("127.0.0.1", port)) as peer:
        for at in range(0, size_bytes, PIECE_BYTES):
            os.preadv(file, [piece], at)
            peer.sendall(piece)


def take(path: str, size_bytes: int, listener: socket.socket) -> None:
    peer, _ = listener.accept()
    file, block = open_direct(path), mmap.mmap(-1, SYNC_BYTES)
    view = memoryview(block)
    os.posix_fallocate(file, 0, size_bytes)
    for at in range(0, size_bytes, SYNC_BYTES):
        taken = 0
        while taken < SYNC_BYTES:
            taken += peer.recv_into(view[taken:])
        for piece in range(0, SYNC_BYTES, PIECE_BYTES):
            os.pwrite(file, view[piece : piece + PIECE_BYTES], at + piece)
        os.fdatasync(file)


def main() -> None:
    directory = sys.argv[1]
    streams = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    gigabytes = float(sys.argv[3]) if len(sys.argv) > 3 else 1
    size_bytes = int(gigabytes * 1e9) // SYNC_BYTES * SYNC_BYTES
    sources = [os.path.join(directory, f"source-{number}") for number in range(streams)]
    copies = [os.path.join(directory, f"copy-{number}") for number in range(streams)]
    for source in sources:
        fill(source, size_bytes)
    processes = []
    for source, copy in zip(sources, copies, strict=True):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        processes.append(multiprocessing.Process(target=take, args=(copy, size_bytes, listener)))
        processes.append(multiprocessing.Process(target=send, args=(source, size_bytes, port)))
    begun = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    took = time.monotonic() - begun
    if any(process.exitcode for process in processes):
        sys.exit("a stream failed")
    for path in sources + copies:
        os.remove(path)
    print(f"from disk over loopback to disk, {streams} streams: {streams * size_bytes / 1e6 / took:.0f} MB/s")


if __name__ == "__main__":
    main()
