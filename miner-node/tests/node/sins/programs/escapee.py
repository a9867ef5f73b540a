"""Leaves a process behind in a session of its own, under the name `sleep MARK`."""
import os, sys

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        silent = os.open("/dev/null", os.O_RDWR)
        for stream in range(3):
            os.dup2(silent, stream)
        os.execv("/usr/bin/sleep", ["sleep", sys.argv[1]])
    os._exit(0)
os.wait()
print("did escapee")
