{
  description = "civm: secrets in sops files, and virtual machines that come up with theirs, from one static binary";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f system (packages nixpkgs.legacyPackages.${system}));

      packages = pkgs: rec {
        civm = import ./nix/package.nix { inherit pkgs; };
        default = civm;
      } // import ./nix/names.nix { inherit pkgs; civm = import ./nix/package.nix { inherit pkgs; }; };
    in
    {
      # Packages: civm, and civm under each name of a tool that it stands in for.
      packages = each (_: own: own);

      apps = each (_: own: rec {
        civm = { type = "app"; program = "${own.civm}/bin/civm"; };
        default = civm;
      });

      devShells = each (system: own:
        let pkgs = nixpkgs.legacyPackages.${system}; in {
          # A project of civm's users.
          default = pkgs.mkShell {
            packages = with own; [ civm sops ssh-to-age update-sops-files ];
          };
          # What civm is built, run and tested with.
          civm = pkgs.mkShell {
            packages = with pkgs; [
              cargo rustc rustfmt clippy cargo-deny gcc glibc.static
              qemu mmdebstrap fakeroot shadow e2fsprogs kmod xz openssh dpkg apt
              go git util-linux
            ];
          };
        });

      # nixpkgs' sops, ssh-to-age and sops-install-secrets are civm then, for sops-nix too.
      overlays.default = final: prev:
        { civm = import ./nix/package.nix { pkgs = final; }; }
        // removeAttrs (import ./nix/names.nix { pkgs = final; inherit (final) civm; }) [ "update-sops-files" ];

      nixosModules.default = { pkgs, ... }: {
        imports = [ ./nix/module.nix ];
        civm.package = nixpkgs.lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.civm;
      };
    };
}
