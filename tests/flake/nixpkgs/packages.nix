# Packages, made of what the machine under the tests has.
{ lib, system, machine }:
final:
let
  # The builder ends with a builtin: Nix kills it when its output closes, and a program's status would be lost with it.
  run = name: variables: script: derivation ({
    inherit name system;
    builder = "/bin/sh";
    args = [ "-c" "set -e; PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin; export PATH\n${script}\nexit 0" ];
  } // removeAttrs variables [ "meta" ]) // (if variables ? meta then { inherit (variables) meta; } else { });
  withMeta = meta: package: package // { inherit meta; };
in
{
  inherit lib system;
  stdenv.hostPlatform = { inherit system; };
  runCommand = name: variables: script: run name variables script;
  writeText = name: text: builtins.toFile name text;
  writeShellScriptBin = name: text: withMeta { mainProgram = name; } (run name { inherit text; passAsFile = [ "text" ]; } ''
    mkdir -p $out/bin
    { echo '#!/bin/sh'; cat "$textPath"; } >$out/bin/${name}
    chmod 755 $out/bin/${name}
  '');
  mkShell = { packages ? [ ], shellHook ? "", ... }:
    run "shell" { inherit shellHook; nativeBuildInputs = packages; } "mkdir $out" // { inherit packages; };
  rustPlatform.buildRustPackage = { pname, version, src, cargoLock, meta ? { }, ... }:
    withMeta meta (run "${pname}-${version}" { inherit src; lock = cargoLock.lockFile; binary = machine.civm; } ''
      test -f "$src/Cargo.toml"
      test -f "$lock"
      mkdir -p $out/bin
      cp "$binary" $out/bin/civm
      chmod 755 $out/bin/civm
    '' // { inherit pname version cargoLock; });
  # Those that civm stands in for: they do nothing, and say so.
  sops = final.writeShellScriptBin "sops" "echo not civm >&2; exit 9";
  ssh-to-age = final.writeShellScriptBin "ssh-to-age" "echo not civm >&2; exit 9";
  sops-install-secrets = final.writeShellScriptBin "sops-install-secrets" "echo not civm >&2; exit 9";
} // lib.genAttrs [ "cargo" "rustc" "rustfmt" "clippy" "cargo-deny" "gcc" "qemu" "mmdebstrap" "fakeroot" "shadow" "e2fsprogs" "kmod" "xz" "openssh" "dpkg" "apt" "go" "git" "util-linux" "age" ] (name: run name { } "mkdir -p $out/bin")
