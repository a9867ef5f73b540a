#!/bin/sh
# In XMRig's place: says beside the name that it was started by where it is and with what it was
# started, and has no API.
read -r line <"$2" || :
echo "$line" >"${0%/*}/config"
echo $$ >"${0%/*}/id.part"
/bin/mv "${0%/*}/id.part" "${0%/*}/id"
exec /bin/sleep 600
