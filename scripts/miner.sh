#!/bin/sh
# The boot guide's name for the miner: in the foreground, as whoever calls it. The service does not need
# it, see etc/systemd/aitbc-miner.service.
exec miner-node run "$@"
