# SPDX-License-Identifier: MIT
# Three machines: a client, a gateway with btblock, a peer behind it.
{ pkgs, module }:

pkgs.testers.runNixOSTest {
  name = "btblock";

  nodes = {
    client =
      { nodes, lib, ... }:
      {
        virtualisation.vlans = [ 1 ];
        networking.defaultGateway.address =
          (lib.head nodes.gateway.networking.interfaces.eth1.ipv4.addresses).address;
        networking.defaultGateway.interface = "eth1";
        environment.systemPackages = [ pkgs.python3 ];
      };

    gateway =
      { ... }:
      {
        imports = [ module ];
        virtualisation.vlans = [
          1
          2
        ];
        boot.kernel.sysctl."net.ipv4.ip_forward" = 1;
        networking.nftables.enable = true;
        services.btblocker = {
          enable = true;
          interface = "eth1";
          settings.events.file = "/var/log/btblock/events.json";
        };
      };

    peer =
      { nodes, lib, ... }:
      {
        virtualisation.vlans = [ 2 ];
        networking.defaultGateway.address =
          (lib.head nodes.gateway.networking.interfaces.eth2.ipv4.addresses).address;
        networking.defaultGateway.interface = "eth1";
        networking.firewall.enable = false;
        environment.systemPackages = [ pkgs.python3 ];
        systemd.services.echo = {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = "${pkgs.python3}/bin/python3 ${./echo.py} serve";
        };
      };
  };

  testScript =
    { nodes, ... }:
    let
      peer = (pkgs.lib.head nodes.peer.networking.interfaces.eth1.ipv4.addresses).address;
    in
    ''
      start_all()
      gateway.wait_for_unit("btblock.service")
      peer.wait_for_unit("echo.service")
      client.wait_until_succeeds("ping -c 1 ${peer}")


      def say(what, port, proto="tcp"):
          return f"python3 ${./echo.py} {what} ${peer} {port} {proto}"


      with subtest("other traffic passes"):
          client.succeed(say("page", 6001))
          client.succeed(say("page", 6002, "udp"))

      with subtest("BitTorrent does not"):
          client.fail(say("handshake", 6003))
          client.fail(say("dht", 6004, "udp"))
          client.fail(say("announce", 6005))

      with subtest("it is told"):
          gateway.succeed("btblock events -o json | grep -F tcp.handshake")
          gateway.succeed("grep -F tracker.http /var/log/btblock/events.json")
          gateway.succeed("btblock status")

      with subtest("it survives a flush of all rules"):
          gateway.succeed("systemctl reload nftables.service")
          gateway.wait_until_succeeds("nft list ruleset | grep -F queue")
          client.fail(say("announce", 6006))

      with subtest("stopping it removes everything"):
          gateway.succeed("systemctl stop btblock.service")
          gateway.fail("test -e /sys/fs/bpf/btblock")
          gateway.fail("nft list ruleset | grep -F queue")
          client.succeed(say("handshake", 6007))
    '';
}
