"""Takes so many MiB, in sixteen processes, each with little."""
import os, sys, time

each = int(sys.argv[1]) // 16
full, tell = os.pipe()
for _ in range(16):
    if os.fork() == 0:
        held = [bytearray(b"x" * (1 << 20)) for _ in range(each)]
        os.write(tell, b".")
        time.sleep(1000)
for _ in range(16):
    os.read(full, 1)
print("did memory_family")
