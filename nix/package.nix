# civm, built by nixpkgs' Rust.
{ pkgs }:
let
  manifest = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).package;
  wanted = [ "Cargo.toml" "Cargo.lock" ".cargo" "src" "hosts" ];
  root = toString ../.;
  # What decides the program, so that an edit of a test or a page builds nothing anew.
  isWanted = path: _:
    let inside = builtins.substring (builtins.stringLength root + 1) (-1) (toString path);
    in builtins.any (name: inside == name || builtins.substring 0 (builtins.stringLength name + 1) inside == name + "/") wanted;
in
pkgs.rustPlatform.buildRustPackage {
  pname = "civm";
  inherit (manifest) version;
  src = builtins.path { path = ../.; name = "civm-source"; filter = isWanted; };
  cargoLock.lockFile = ../Cargo.lock;
  buildType = "dist";
  # The program is PID 1 of guests, so it is static.
  buildInputs = [ pkgs.glibc.static ];
  # The tests boot machines.
  doCheck = false;
  meta = {
    inherit (manifest) description;
    license = pkgs.lib.licenses.asl20;
    mainProgram = "civm";
  };
}
