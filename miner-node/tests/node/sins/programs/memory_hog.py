"""Takes so many MiB and holds them."""
import sys

held = [bytearray(b"x" * (1 << 20)) for _ in range(int(sys.argv[1]))]
print("did memory_hog")
