"""Prints so many MiB."""
import sys

for _ in range(int(sys.argv[1])):
    sys.stdout.write("x" * ((1 << 20) - 1) + "\n")
print("did endless_output")
