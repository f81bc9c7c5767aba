# civm's flake over the nixpkgs of the tests.
nixpkgs:
let civm = (import ./civm/flake.nix).outputs { self = civm; inherit nixpkgs; };
in civm
