"""Looks for secrets in environments, arguments and all files below argument 1. The others are the
secrets, backwards: so that they are not found here."""
import os, sys

top, secrets = sys.argv[1], [secret[::-1].encode() for secret in sys.argv[2:]]
SYSTEM = ("/usr", "/sys", "/dev", "/proc")


def places():
    for process in filter(str.isdigit, os.listdir("/proc")):
        for file in ("environ", "cmdline"):
            yield f"/proc/{process}/{file}"
    for directory, below, files in os.walk(top):
        below[:] = [name for name in below if not os.path.join(directory, name).startswith(SYSTEM)]
        yield from (os.path.join(directory, name) for name in files)


found = set()
for place in places():
    try:
        with open(place, "rb") as file:
            text = file.read(1 << 20)
    except OSError:
        continue
    found.update(number for number, secret in enumerate(secrets) if secret in text)
for number in range(len(secrets)):
    print("did" if number in found else "refused", f"secret{number}", "ENOENT")
