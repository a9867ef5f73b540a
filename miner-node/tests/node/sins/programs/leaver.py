"""Leaves something for whoever comes next, under the name of argument 2; or looks for it."""
import ctypes, os, sys

what, mark = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None)
SIZE, CREATE, REMOVE = 64, 0o1600, 0
key = int(mark) & 0x7FFFFFFF
places = ["/tmp", "/var/tmp", "/dev/shm", "/run", os.environ.get("HOME", "/tmp")]
names = [os.path.join(place, f"left-{mark}") for place in places]


def plant():
    for name in names:
        try:
            with open(name, "w") as file:
                file.write("still here")
        except OSError:
            pass
    libc.shmget(key, SIZE, CREATE)
    print("did plant")


def look():
    for name in names:
        print("did" if os.path.exists(name) else "refused", name, "ENOENT")
    print("did" if libc.shmget(key, SIZE, 0) >= 0 else "refused", "shared_memory", "ENOENT")


def clean():
    for name in filter(os.path.exists, names):
        os.unlink(name)
    libc.shmctl(libc.shmget(key, SIZE, 0), REMOVE, None)


{"plant": plant, "look": look, "clean": clean}[what]()
