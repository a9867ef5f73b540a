"""Writes so many MiB to each place that is memory."""
import os, sys

for place in ("/tmp", "/dev/shm", "/dev", "/run"):
    name, word = f"{place}/filled-{os.getpid()}", "did"
    try:
        with open(name, "wb", buffering=0) as file:
            for _ in range(int(sys.argv[1])):
                if file.write(bytes(1 << 20)) < 1 << 20:
                    word = "refused"
                    break
    except OSError:
        word = "refused"
    if os.path.exists(name):
        os.unlink(name)
    print(word, place, "EACCES")
