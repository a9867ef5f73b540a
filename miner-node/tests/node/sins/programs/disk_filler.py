"""Writes so many MiB into one file."""
import signal, sys

# As it is for every program but Python.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

with open("large", "wb", buffering=0) as file:
    for _ in range(int(sys.argv[1])):
        file.write(bytes(1 << 20))
print("did disk_filler")
