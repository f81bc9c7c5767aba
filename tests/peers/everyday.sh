# A day with secrets, a command a line. `tests/peers/everyday.rs` runs every line on its own, first with the real tools and
# then with civm under their names, and compares what is printed and what is left. $ALICE is the one at work, with her
# identity in $SOPS_AGE_KEY_FILE; $BOB is a colleague.

## Prepared once, with the real tools.
git init -q . && git config user.name alice && git config user.email alice@example.org
mkdir -p hosts/web hosts/db modules/nebula && ssh-keygen -q -t ed25519 -N '' -C root@web -f hosts/web/key && ssh-keygen -q -t rsa -N '' -C root@web -f hosts/web/rsa
printf 'keys:\n  - &alice %s\n  - &web %s\ncreation_rules:\n  - path_regex: hosts/web/secrets.yaml$\n    key_groups:\n      - age: [*alice, *web]\n  - path_regex: (hosts/.*|modules/nebula/.*)\n    age: %s\n' "$ALICE" "$(ssh-to-age -i hosts/web/key.pub)" "$ALICE" >.sops.yaml
printf '# of the web server\ndb_password: hunter2\nport: 8080\nssh_host_ed25519_key: |\n%s\nusers:\n    - name: carol\n      token: abc\n' "$(sed 's/^/    /' hosts/web/key)" >hosts/web/plain.yaml
printf 'password: one\n# rotated every year\napi:\n    key: two\n' >hosts/db/secrets.yaml
printf 'DATABASE_URL=postgres://u:p@db/x?a=b\n# for the mailer\nSMTP_PASSWORD=p4ss word\n' >hosts/db/app.env
printf '{"user": "app", "limits": {"cpu": 2, "ratio": 0.5}}\n' >hosts/db/app.json
printf '[client]\nuser = app\npassword = three\n' >hosts/db/my.ini
head -c 300 /dev/urandom >modules/nebula/ca.key.crypt
printf -- '-----BEGIN NEBULA CERTIFICATE-----\nCmYKB2Jhc3Rpb24SCYGQpFaA\n-----END NEBULA CERTIFICATE-----\n' >cert.pem
printf '#!/bin/sh\nsed -i "s/token: abc/token: def/" "$1"\n' >change && chmod +x change
printf '#!/bin/sh\n{ cat "$1"; echo "added: by hand"; } >"$1.new" && mv "$1.new" "$1"\n' >replace && chmod +x replace
echo '*.yaml diff=sops' >.gitattributes && git config diff.sops.textconv 'sops -d'
git add .sops.yaml .gitattributes && git commit -q -m start

## The day.
ssh-to-age <hosts/web/key.pub
printf '# web:22 SSH-2.0-OpenSSH_9.9\nweb %s\n# web:22 SSH-2.0-OpenSSH_9.9\nweb %s\n' "$(cut -d' ' -f1,2 hosts/web/rsa.pub)" "$(cut -d' ' -f1,2 hosts/web/key.pub)" | ssh-to-age
ssh-to-age -private-key -i hosts/web/key >host.agekey && age-keygen -y host.agekey
sops -e hosts/web/plain.yaml >hosts/web/secrets.yaml
mv hosts/web/plain.yaml hosts/web/secrets.yaml && sops --encrypt --in-place hosts/web/secrets.yaml
for f in hosts/db/*; do sops encrypt -i "$f" || exit; done
sops encrypt -i modules/nebula/ca.key.crypt
sops -d hosts/web/secrets.yaml
sops decrypt hosts/db/app.json
sops --extract '["db_password"]' --decrypt hosts/web/secrets.yaml
sops -d --extract '["users"][0]["token"]' hosts/web/secrets.yaml
umask 077; sops -d --extract '["ssh_host_ed25519_key"]' --output extracted hosts/web/secrets.yaml && ssh-keygen -y -f extracted | cmp - hosts/web/key.pub; cmp extracted hosts/web/key
SOPS_AGE_KEY_FILE= SOPS_AGE_KEY="$(ssh-to-age -private-key -i hosts/web/key)" sops -d --extract '["port"]' hosts/web/secrets.yaml
SOPS_AGE_KEY_FILE=host.agekey sops -d hosts/db/secrets.yaml
awk 'BEGIN{printf "\""}{printf "%s\\n",$0}END{print "\""}' cert.pem | sops set --value-stdin hosts/web/secrets.yaml '["nebula-cert"]'
sops decrypt --extract '["nebula-cert"]' hosts/web/secrets.yaml | cmp - cert.pem
sops set hosts/db/secrets.yaml '["api"]["key"]' '"changed"'
sops unset hosts/db/secrets.yaml '["password"]'
EDITOR=$PWD/change sops hosts/web/secrets.yaml
EDITOR=$PWD/replace sops edit hosts/db/secrets.yaml
EDITOR=true sops hosts/db/secrets.yaml
git add hosts && git commit -q -m secrets && git log -p --format=%s -- hosts/db/secrets.yaml | grep '^[+-]'
sops set hosts/db/secrets.yaml '["added"]' '"again"' && git diff hosts/db/secrets.yaml | grep '^[+-] *added'
git ls-files hosts | while read -r f; do case "$f" in *key* | *rsa*) ;; *) printf '%s ' "$f"; sops filestatus "$f" || exit ;; esac; done
eval "$(sops -d --output-type dotenv hosts/db/app.json 2>/dev/null || sops -d hosts/db/app.env | sed "s/=\(.*\)/='\1'/")" && echo "$SMTP_PASSWORD"
sops exec-env hosts/db/app.env 'printf "%s\n" "$DATABASE_URL"; exit 3' 2>/dev/null
sops exec-env hosts/db/app.env 'test "$SMTP_PASSWORD" = "p4ss word"'
sops exec-file hosts/db/my.ini 'grep -c password {}'
sops exec-file --no-fifo hosts/web/secrets.yaml 'wc -l <{}'
sed -i "s/^\(    age: \).*/\1$ALICE,$BOB/" .sops.yaml && find hosts -name secrets.yaml -exec sops updatekeys --yes {} ';'
sops updatekeys --yes hosts/db/app.env hosts/db/app.json hosts/db/my.ini modules/nebula/ca.key.crypt
sops updatekeys --yes hosts/*/secrets.yaml modules/nebula/*
SOPS_AGE_KEY_FILE=$KEYS/bob sops -d hosts/db/app.env
SOPS_AGE_KEY_FILE=$KEYS/bob sops -d hosts/web/secrets.yaml
sops rotate -i hosts/db/secrets.yaml && sops -d hosts/db/secrets.yaml
sops rotate --in-place --rm-age "$BOB" hosts/db/app.json && SOPS_AGE_KEY_FILE=$KEYS/bob sops -d hosts/db/app.json
sops -d hosts/db/app.json | sops encrypt --filename-override hosts/db/copy.json --output hosts/db/copy.json && sops -d --output-type yaml hosts/db/copy.json
sops decrypt -i hosts/db/my.ini && cat hosts/db/my.ini
sops encrypt -i hosts/db/secrets.yaml
sops -d no/such/file.yaml
