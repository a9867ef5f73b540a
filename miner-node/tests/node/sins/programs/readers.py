"""Opens what tells of the host or changes it; nothing is written. Argument 1 is a process of it."""
import errno, os, sys

host = f"/proc/{sys.argv[1]}"
READ = [
    "/etc/passwd", "/etc/hostname", "/etc/ssl", "/root", "/home", "/var/lib", "/run", "/boot",
    "/sys/class", "/sys/kernel", "/proc/kcore", "/dev/kmsg", "/dev/mem",
    f"{host}/environ", f"{host}/cmdline", f"{host}/root/etc/passwd", f"{host}/fd", f"{host}/maps",
]
WRITE = [
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger", "/proc/self/oom_score_adj", "/proc/self/uid_map", "/usr/bin/true",
    "/sys/power/state", "/sys/kernel/uevent_helper",
]


def read(path):
    if os.path.isdir(path):
        return os.listdir(path)
    with open(path, "rb", buffering=0) as file:
        os.set_blocking(file.fileno(), False)
        return file.read(8192)


def write(path):
    os.close(os.open(path, os.O_WRONLY))
    return True


def attempt(what, sin, path):
    try:
        answer = 0 if sin(path) else errno.ENOENT
    except OSError as error:
        answer = error.errno
    print(f"{'refused' if answer else 'did'} {what}:{path}", errno.errorcode.get(answer, answer))


for path in READ:
    attempt("read", read, path)
for path in WRITE:
    attempt("write", write, path)
