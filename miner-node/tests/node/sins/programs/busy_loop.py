"""Keeps a processor busy for so many milliseconds of its time."""
import sys, time

while time.process_time() * 1000 < int(sys.argv[1]):
    pass
print("did busy_loop")
