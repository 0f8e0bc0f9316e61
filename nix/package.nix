# SPDX-License-Identifier: MIT
{
  lib,
  stdenv,
  cmake,
  ninja,
  pkg-config,
  bpftools,
  scdoc,
  llvmPackages,
  libbpf,
  libmicrohttpd,
  libmnl,
  libnetfilter_queue,
  libpcap,
  libmd,
  zlib,
  spdlog,
  fmt,
  cli11,
  tomlplusplus,
  nlohmann_json,
  systemdLibs,
  gtest,
}:

let
  root = ../.;
  # Read from the one place that has it.
  version = lib.head (
    builtins.match ".*project\\(btblock VERSION ([0-9.]+).*" (builtins.readFile (root + "/CMakeLists.txt"))
  );
in
stdenv.mkDerivation (finalAttrs: {
  pname = "btblock";
  inherit version;

  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      (root + "/CMakeLists.txt")
      (root + "/LICENSE")
      (root + "/LICENSES")
      (root + "/README.md")
      (root + "/bpf")
      (root + "/dist")
      (root + "/docs")
      (root + "/include")
      (root + "/src")
      (root + "/tests")
    ];
  };

  strictDeps = true;

  nativeBuildInputs = [
    cmake
    ninja
    pkg-config
    bpftools
    scdoc
  ];

  buildInputs = [
    libbpf
    libmicrohttpd
    libmnl
    libnetfilter_queue
    libpcap
    libmd
    zlib
    spdlog
    fmt
    cli11
    tomlplusplus
    nlohmann_json
    systemdLibs
  ];

  checkInputs = [ gtest ];

  cmakeFlags = [
    # The wrapped clang adds hardening flags that the bpf target refuses. The daemon keeps its own.
    (lib.cmakeFeature "BTBLOCK_BPF_CLANG" (lib.getExe' llvmPackages.clang-unwrapped "clang"))
    (lib.cmakeFeature "BTBLOCK_SYSCONFDIR" "${placeholder "out"}/etc")
    (lib.cmakeBool "BUILD_TESTING" finalAttrs.finalPackage.doCheck)
  ];

  doCheck = true;
  # The others need privileges, a network or programs to talk to: scripts/test runs them, and the VM test.
  checkPhase = ''
    runHook preCheck
    ctest --output-on-failure -L unit
    runHook postCheck
  '';

  # A hook moves sbin to bin; the unit names the program in full.
  postFixup = ''
    substituteInPlace $out/lib/systemd/system/*.service \
      --replace-quiet "$out/sbin/" "$out/bin/" \
      --replace-quiet "$out/etc/btblock/" "/etc/btblock/"
  '';

  meta = {
    description = "Inline BitTorrent blocker for Linux gateways";
    license = [
      lib.licenses.mit
      lib.licenses.gpl2Only
    ];
    mainProgram = "btblock";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
})
