# SPDX-License-Identifier: MIT
# NixOS: services.btblocker. The options have the names of the program that btblock replaces; `settings` has all the rest.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib)
    literalExpression
    mkDefault
    mkEnableOption
    mkIf
    mkOption
    mkPackageOption
    types
    ;

  cfg = config.services.btblocker;
  format = pkgs.formats.toml { };
  exe = lib.getExe cfg.package;
  etcFile = "/etc/btblock/btblock.toml";

  # Checked when the system is built, so that a typo does not wait for the next start.
  written = format.generate "btblock.toml" cfg.settings;
  checked = pkgs.runCommand "btblock.toml" { } ''
    ${exe} config check --config ${written}
    cp ${written} $out
  '';
  canCheck = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  # Files that the daemon may write outside its own directories.
  logFiles = lib.filter (path: path != "") [
    (cfg.settings.detection_log or "")
    (cfg.settings.events.file or "")
  ];
  foreignLogFiles = lib.filter (path: !lib.hasPrefix "/var/log/btblock/" path) logFiles;

  capabilities = [
    "CAP_BPF"
    "CAP_NET_ADMIN"
    "CAP_PERFMON"
  ];
in
{
  options.services.btblocker = {
    enable = mkEnableOption "btblock, which keeps BitTorrent off this gateway";

    package = mkPackageOption pkgs "btblock" { };

    interface = mkOption {
      type = types.nonEmptyStr;
      default = "eth0";
      example = "wg0,eth0";
      description = ''
        Interfaces to guard, joined by commas. Name the one that the clients come in on. One that does not exist yet is
        guarded when it appears, but at least one must exist when the service starts.
      '';
    };

    banDuration = mkOption {
      type = types.ints.positive;
      default = 18000;
      description = "How long a remote peer stays banned, in seconds.";
    };

    logLevel = mkOption {
      type = types.enum [
        "error"
        "warn"
        "info"
        "debug"
      ];
      default = "info";
      description = "What the service logs.";
    };

    detectionLogPath = mkOption {
      type = types.str;
      default = "";
      example = "/var/log/btblock/detections.log";
      description = ''
        File for a log of detections with the first bytes of the packet, readable for its owner only; empty for none.
      '';
    };

    monitorOnly = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to count and report only, and drop nothing.";
    };

    xdpMode = mkOption {
      type = types.enum [
        "generic"
        "native"
        "offload"
        "off"
      ];
      default = "generic";
      description = ''
        Early drop of banned addresses by XDP. `generic` means what works on every device: XDP where the device has it,
        TC elsewhere (`xdp = "auto"` in {option}`services.btblocker.settings`). The others insist, and refuse to start
        where it is not possible.
      '';
    };

    cleanupInterval = mkOption {
      type = types.ints.positive;
      default = 300;
      description = "Seconds between removals of expired bans. The kernel itself checks when a ban ends.";
    };

    whitelistPorts = mkOption {
      type = types.listOf types.port;
      default = [
        22
        53
        80
        443
        853
        5222
        5269
      ];
      description = ''
        Ports that statistical evidence and bans spare. Exact signatures count on them too, unless `strict_whitelist`
        is set in {option}`services.btblocker.settings`.
      '';
    };

    queueNum = mkOption {
      type = types.ints.u16;
      default = 0;
      description = "The first netfilter queue number; as many as there are queue threads are used.";
    };

    chains = mkOption {
      type = types.listOf (
        types.enum [
          "INPUT"
          "FORWARD"
          "OUTPUT"
        ]
      );
      default = [ "FORWARD" ];
      description = ''
        Which traffic user space looks at: routed through this machine, for it, or from it. No rule is put into these
        chains: btblock has a table of its own.
      '';
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = literalExpression ''
        {
          ban.target = "none";
          allow = [ { prefix = "198.51.100.0/24"; comment = "mirror network"; } ];
          events.file = "/var/log/btblock/events.json";
        }
      '';
      description = ''
        Content of {file}`${etcFile}`, see {manpage}`btblock.toml(5)`. It wins over the other options of this module, and
        is checked when the system is built.
      '';
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion =
          config.boot.isContainer
          || lib.versionAtLeast config.boot.kernelPackages.kernel.version "5.10";
        message = "services.btblocker needs Linux 5.10 or newer; this is ${config.boot.kernelPackages.kernel.version}.";
      }
      {
        assertion = cfg.chains != [ ];
        message = "services.btblocker.chains is empty: name at least one of INPUT, FORWARD, OUTPUT.";
      }
    ];

    system.requiredKernelConfig =
      let
        inherit (config.lib.kernelConfig) isEnabled isYes;
      in
      [
        (isYes "BPF_SYSCALL")
        (isEnabled "NET_CLS_BPF")
        (isEnabled "NET_SCH_INGRESS")
        (isEnabled "NETFILTER_NETLINK_QUEUE")
      ];

    # They load by themselves, except under security.lockKernelModules.
    boot.kernelModules = [
      "sch_ingress"
      "cls_bpf"
      "nfnetlink_queue"
      "nft_queue"
    ];

    services.btblocker.settings = {
      interfaces = mkDefault (
        lib.filter (name: name != "") (
          lib.splitString "," (lib.replaceStrings [ " " ] [ "" ] cfg.interface)
        )
      );
      scope = mkDefault (
        if lib.elem "OUTPUT" cfg.chains then
          "output"
        else if lib.elem "FORWARD" cfg.chains then
          "forward"
        else
          "input"
      );
      xdp = mkDefault (if cfg.xdpMode == "generic" then "auto" else cfg.xdpMode);
      queue.first = mkDefault cfg.queueNum;
      monitor_only = mkDefault cfg.monitorOnly;
      ban.duration = mkDefault cfg.banDuration;
      whitelist_ports = mkDefault cfg.whitelistPorts;
      log_level = mkDefault cfg.logLevel;
      cleanup_interval = mkDefault cfg.cleanupInterval;
      detection_log = mkIf (cfg.detectionLogPath != "") (mkDefault cfg.detectionLogPath);
    };

    environment.etc."btblock/btblock.toml".source = if canCheck then checked else written;
    environment.systemPackages = [ cfg.package ];

    users.users.btblock = {
      isSystemUser = true;
      group = "btblock";
      description = "BitTorrent blocker";
    };
    users.groups.btblock = { };

    systemd.tmpfiles.rules = lib.concatMap (path: [
      "d ${dirOf path} - - - -"
      "f ${path} 0600 btblock btblock -"
    ]) foreignLogFiles;

    systemd.services.btblock = {
      description = "BitTorrent blocker";
      documentation = [
        "man:btblock(1)"
        "man:btblock.toml(5)"
      ];
      # The name of the program that btblock replaces.
      aliases = [ "btblocker.service" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network.target" ];
      after = [
        "network.target"
        "nftables.service"
      ];
      # A reload of the firewall may flush all rules; ours comes back with a reload.
      unitConfig = lib.optionalAttrs config.networking.nftables.enable {
        ReloadPropagatedFrom = [ "nftables.service" ];
      };
      reloadTriggers = [ config.environment.etc."btblock/btblock.toml".source ];
      path = [
        pkgs.nftables
        pkgs.iptables
      ];

      serviceConfig = {
        Type = "notify";
        ExecStartPre = [
          # What only root may do: a directory for the pinned maps and programs, which the daemon then owns, and a way
          # there.
          "+${pkgs.coreutils}/bin/chmod a+x /sys/fs/bpf"
          "+${pkgs.coreutils}/bin/mkdir -p -m 0700 /sys/fs/bpf/btblock"
          "+${pkgs.coreutils}/bin/chown -Rh btblock:btblock /sys/fs/bpf/btblock"
          "${exe} config check --config ${etcFile}"
        ];
        ExecStart = "${exe} run --config ${etcFile}";
        ExecReload = [
          "${exe} config check --config ${etcFile}"
          "${pkgs.coreutils}/bin/kill -HUP $MAINPID"
        ];
        # Stays while `persist = true` has something in it.
        ExecStopPost = "-+${pkgs.coreutils}/bin/rmdir --ignore-fail-on-non-empty /sys/fs/bpf/btblock";
        # Only the daemon gets SIGTERM: an nft that it has just started to remove the rule must end its work.
        KillMode = "mixed";
        WatchdogSec = 30;
        Restart = "on-failure";
        RestartSec = 2;
        RestartPreventExitStatus = "2 5";
        SyslogIdentifier = "btblock";
        LogRateLimitIntervalSec = 0;

        User = "btblock";
        Group = "btblock";
        RuntimeDirectory = "btblock/main";
        RuntimeDirectoryMode = "0750";
        StateDirectory = "btblock/main";
        StateDirectoryMode = "0700";
        LogsDirectory = "btblock";
        LogsDirectoryMode = "0750";

        CapabilityBoundingSet = capabilities;
        AmbientCapabilities = capabilities;
        LimitMEMLOCK = "infinity";
        LimitNOFILE = 65536;
        OOMScoreAdjust = -500;

        # Of the BPF file system it may write its own directory only; ProtectKernelTunables makes the rest read-only.
        ReadWritePaths = [ "-/sys/fs/bpf/btblock" ] ++ lib.unique (map dirOf foreignLogFiles);
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateMounts = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RemoveIPC = true;
        KeyringMode = "private";
        UMask = "0077";
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_NETLINK"
          "AF_INET"
          "AF_INET6"
        ];
        # The metrics listener is the only socket of the Internet families.
        IPAddressDeny = "any";
        IPAddressAllow = "localhost";
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service bpf"
          "~@chown @keyring @resources"
        ];
        SystemCallErrorNumber = "EPERM";
        DevicePolicy = "closed";
      };
    };
  };
}
