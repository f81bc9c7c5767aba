#!/bin/sh
# Makes the authority and the certificate of the tests' https server, for 127.0.0.1 and localhost. They protect nothing.
set -eu
cd "$(dirname "$0")"
new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 36500'
$new -keyout ca.key -out ca.pem -subj '/CN=civm tests' -addext 'basicConstraints=critical,CA:TRUE' \
    -addext 'keyUsage=critical,keyCertSign'
$new -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem -subj '/CN=localhost' \
    -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -addext 'basicConstraints=critical,CA:FALSE' \
    -addext 'extendedKeyUsage=serverAuth'
rm ca.key
