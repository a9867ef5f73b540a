"""Does not listen to requests to end, for so many milliseconds."""
import os, signal, sys, time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGTERM)
end = time.monotonic() + int(sys.argv[1]) / 1000
while time.monotonic() < end:
    time.sleep(0.05)
print("did deaf")
