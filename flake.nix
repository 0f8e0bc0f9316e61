# SPDX-License-Identifier: MIT
{
  description = "btblock: inline BitTorrent blocker for Linux gateways";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        btblock = pkgs.callPackage ./nix/package.nix { };
        default = btblock;
      });

      overlays.default = final: _: {
        btblock = final.callPackage ./nix/package.nix { };
        btblocker = final.btblock;
      };

      # No overlay is needed with it: the package is the one of this flake.
      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./nix/module.nix ];
          services.btblocker.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };
      nixosModules.btblocker = self.nixosModules.default;

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = [
            pkgs.clang-tools
            pkgs.gtest
            pkgs.iptables
            pkgs.nftables
            pkgs.shellcheck
          ];
          # As in the package: the wrapped clang cannot compile for bpf.
          CMAKE_ARGS = "-DBTBLOCK_BPF_CLANG=${lib.getExe' pkgs.llvmPackages.clang-unwrapped "clang"}";
        };
      });

      checks = each (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        vm = import ./nix/test.nix {
          inherit pkgs;
          module = self.nixosModules.default;
        };
      });

    };
}
