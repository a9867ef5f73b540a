# shellcheck shell=bash
# The proxies of docs/operate.md, each with the document's settings, in front of two addresses, with TLS.
# To be sourced, after shown.sh.

# shellcheck disable=SC2034  # it is the other script's
PROXIES=(haproxy caddy nginx)

# A certificate for this machine, of an authority that nobody else knows, where the document has its
# own: DIR/tls.
make_certificate() {
    local tls=$DIR/tls curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc)
    mkdir -p "$tls"
    chmod 700 "$tls"
    [[ -e $tls/ca.pem ]] || quietly openssl req -x509 "${curve[@]}" -days 2 -subj '/CN=authority of a test' \
        -keyout "$tls/ca.key" -out "$tls/ca.pem"
    quietly openssl req -x509 "${curve[@]}" -days 1 -subj /CN=localhost -CA "$tls/ca.pem" -CAkey "$tls/ca.key" \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -addext 'basicConstraints=critical,CA:FALSE' \
        -keyout "$tls/privkey.pem.next" -out "$tls/fullchain.pem.next"
    mv "$tls/privkey.pem.next" "$tls/privkey.pem"
    mv "$tls/fullchain.pem.next" "$tls/fullchain.pem"
    (umask 077 && cat "$tls/fullchain.pem" "$tls/privkey.pem" >"$tls/coordinator.pem")
}

# start_proxy KIND DIR ADDRESS ADDRESS: in the background, until it answers. Sets PROXY_URL.
start_proxy() {
    local kind=$1 dir=$2 port try pid
    mkdir -p "$dir"
    for try in 1 2 3 4 5; do
        port=$(free_port)
        "settings_of_$kind" "$dir" "$port" | of_this_run "$3" "$4" >"$dir/settings"
        ! grep -nE '10\.0\.0\.|example\.net|/etc/' "$dir/settings" || die "$kind has an address of the document's"
        ("run_$kind" "$dir" >"$dir/log" 2>&1) &
        pid=$!
        PROXY_URL=https://localhost:$port
        if wait_until 20 "$kind" proxy_serves "$pid"; then
            at_end stop_process "$pid"
            return
        fi
        stop_process "$pid"
        ((try < 5)) || die "$kind does not start: $(tail -n 5 "$dir/log")"
    done
}

# It answers, be it that nobody is behind it.
proxy_serves() { has_ended "$1" || curl -s -m 5 -o /dev/null "$PROXY_URL/readyz"; }

of_this_run() {
    sed -e "s/10\.0\.0\.1:8011/$1/g" -e "s/10\.0\.0\.2:8011/$2/g" -e "s/coordinator\.example\.net/localhost/g" \
        -e "s#/etc/letsencrypt/live/localhost#$DIR/tls#g" -e "s#/etc/haproxy/coordinator.pem#$DIR/tls/coordinator.pem#g"
}

# What Debian's own configuration has around it, and the places of this run.
settings_of_nginx() {
    cat <<-CONFIG
		daemon off;
		pid $1/pid;
		events { worker_connections 1024; }
		http {
		access_log $1/access.log;
		client_body_temp_path $1/body;
		proxy_temp_path $1/proxy;
		fastcgi_temp_path $1/fastcgi;
		uwsgi_temp_path $1/uwsgi;
		scgi_temp_path $1/scgi;
		$(shown 'upstream replicas {' | sed "s/listen 443 ssl/listen 127.0.0.1:$2 ssl/")
		}
	CONFIG
}
run_nginx() { exec nginx -e "$1/error.log" -c "$1/settings"; }

# Caddy would ask a public authority for its certificate.
settings_of_caddy() {
    printf '{\n    admin off\n    auto_https disable_redirects\n}\n'
    shown 'reverse_proxy 10.0.0.1' | sed "s#^coordinator.example.net {#coordinator.example.net:$2 {\\
    bind 127.0.0.1\\
    tls $DIR/tls/fullchain.pem $DIR/tls/privkey.pem#"
}
run_caddy() { HOME=$1 XDG_DATA_HOME=$1 XDG_CONFIG_HOME=$1 exec caddy run --adapter caddyfile --config "$1/settings"; }

settings_of_haproxy() {
    printf 'defaults\n    mode http\n'
    shown 'backend replicas' | sed "s/bind :443/bind 127.0.0.1:$2/"
}
run_haproxy() { exec haproxy -db -f "$1/settings"; }

# start_mute FILE: a replica that dies of each request, which it writes into FILE. Sets MUTE.
start_mute() {
    python3 scripts/operate.d/mute.py >"$1" &
    at_end stop_process "$!"
    wait_until 20 "a replica that says nothing" test -s "$1"
    MUTE=$(head -n 1 "$1")
}

# asks_once KIND: what was sent to a replica that died of it is not sent to the other one.
asks_once() {
    local dir=$DIR/$1-mute url=$PROXY_URL first
    mkdir -p "$dir"
    start_mute "$dir/first"
    first=$MUTE
    start_mute "$dir/second"
    start_proxy "$1" "$dir" "$first" "$MUTE"
    curl -s -m 60 -o /dev/null --data '{}' "$PROXY_URL/v1/jobs" || true
    PROXY_URL=$url
    same "$1, how often it sends a POST" "$(cat "$dir/first" "$dir/second" | grep -c '^POST')" 1
}
