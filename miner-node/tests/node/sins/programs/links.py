"""Has its artifact `deep/x.bin` be something else than a file of its own: argument 1 says what."""
import os, socket, sys

os.mkdir("deep") if sys.argv[1] != "parent" else os.symlink("/etc", "deep")
{
    "symlink": lambda: os.symlink("/etc/hostname", "deep/x.bin"),
    "parent": lambda: None,
    "fifo": lambda: os.mkfifo("deep/x.bin"),
    "socket": lambda: socket.socket(socket.AF_UNIX).bind("deep/x.bin"),
    "directory": lambda: os.mkdir("deep/x.bin"),
}[sys.argv[1]]()
print("did", sys.argv[1])
