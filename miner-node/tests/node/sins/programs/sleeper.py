"""Says nothing for so many milliseconds."""
import sys, time

time.sleep(int(sys.argv[1]) / 1000)
print("did sleeper")
