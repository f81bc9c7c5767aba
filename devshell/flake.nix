{
  description = "The tools that civm is built, run and tested with";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { nixpkgs, ... }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = with pkgs; [
            cargo rustc rustfmt clippy cargo-deny gcc glibc.static
            qemu mmdebstrap fakeroot shadow e2fsprogs kmod xz openssh dpkg apt
            go git util-linux
          ];
        };
      });
    };
}
