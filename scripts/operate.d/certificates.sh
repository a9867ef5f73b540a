# shellcheck shell=bash
# A coordinator that terminates TLS itself and serves only callers with a certificate, as
# docs/operate.md has both. To be sourced, after proxies.sh.

certificates() {
    local dir=$DIR/alone
    authority_as_shown
    # The script's own calls show one.
    printf 'cert = "%s"\n' "$DIR/callers/host1.pem" >"$DIR/callers/.curlrc"
    export CURL_HOME=$DIR/callers
    set_up_coordinator "$dir" sqlite "$(listen_as_shown)"
    start_coordinator "$dir"
    at_end stop_process "$COORDINATOR_PID"
    expect "it speaks TLS" test "${COORDINATOR_URL%%:*}" = https
    expect "a caller without a certificate is not served" fails curl -q -s -m 10 -o /dev/null "$COORDINATOR_URL/healthz"
    expect "a caller with one of another authority is not served" \
        fails curl -q -s -m 10 -o /dev/null --cert "$DIR/tls/coordinator.pem" "$COORDINATOR_URL/healthz"
    make_key "$dir" certified --scope client --client certified
    make_key "$dir" host1 --scope miner --wallet wallet1 --miner-id host1
    expect "nor is the command line" fails aitbc_of certified ''
    expect "with one it is" quietly aitbc_of certified "client_cert_file: $DIR/callers/host1.pem"
    set_up_node "$DIR" host1 wallet1 1
    sed -i "s#allow_insecure: true#ca_file: \"$DIR/tls/ca.pem\", client_cert_file: \"$DIR/callers/host1.pem\"#" \
        "$DIR/host1/miner.yaml"
    start_node "$DIR/host1"
    at_end stop_process "$NODE_PID"
    job=$(post certified /v1/jobs '{"workload": "hash", "input": {"inline": {"text": "hello\n"}}}' | jq -r .job_id)
    expect "a node with one is paid for a job" wait_until 60 "job $job" has_receipt "$job"
    renewal
}

fails() { ! "$@" >/dev/null 2>&1; }

# The document's commands, in a directory of their own.
authority_as_shown() {
    local text
    mkdir -p "$DIR/callers"
    chmod 700 "$DIR/callers"
    text=$(shown '-keyout authority.key' | sed "s#/etc/aitbc/tls/##g")
    expect "an authority for callers" quietly bash -euc "cd '$DIR/callers'; $text"
}

listen_as_shown() {
    {
        shown 'tls_key: /etc' | sed '/ port:/d; s/0\.0\.0\.0/127.0.0.1/'
        shown 'tls_client_ca: ' | sed 1d
    } | sed "s#/etc/aitbc/tls/clients.pem#$DIR/callers/clients.pem#; s#/etc/aitbc/tls#$DIR/tls#"
}

# aitbc_of KEY SETTING: a call by a profile with that setting.
aitbc_of() {
    cat >"$DIR/callers/config.yaml" <<-CONFIG
		default: local
		profiles:
		  local:
		    url: $COORDINATOR_URL
		    key_file: $KEYS/$1.key
		    ca_file: $DIR/tls/ca.pem
		    ${2:-allow_insecure: false}
	CONFIG
    AITBC_CONFIG=$DIR/callers/config.yaml timeout 60 "$BIN/aitbc" jobs
}

has_receipt() { api certified GET "/v1/jobs/$1/receipt" >/dev/null 2>&1; }

# New files in place of the old ones, and nobody starts anything again.
renewal() {
    local before
    before=$(presented)
    make_certificate
    expect "a new certificate is taken into use" wait_until 60 "it" presents_another_than "$before"
    expect "and callers are served with it" curl -fs -m 10 -o /dev/null "$COORDINATOR_URL/readyz"
}

presented() {
    openssl s_client -connect "${COORDINATOR_URL#https://}" -cert "$DIR/callers/host1.pem" \
        -key "$DIR/callers/host1.pem" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint
}

presents_another_than() {
    local now
    now=$(presented) && [[ -n $now && $now != "$1" ]]
}
