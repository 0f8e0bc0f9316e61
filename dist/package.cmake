# Packages: cpack -G DEB and cpack -G TGZ in the build directory, as scripts/package does.
set(CPACK_PACKAGE_NAME btblock)
set(CPACK_PACKAGE_VENDOR "btblock contributors")
set(CPACK_PACKAGE_CONTACT "btblock contributors <btblock@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Inline BitTorrent blocker for Linux gateways")
set(CPACK_PACKAGE_DESCRIPTION
"Keeps BitTorrent off a VPN server, router or proxy host. eBPF programs on
TC and XDP recognise BitTorrent by what it says on the wire and drop it at
the first packet that gives it away: tracker requests, DHT queries, peer
handshakes, plain or encrypted, over TCP or uTP, IPv4 or IPv6, on any port.
.
Every decision names its evidence, and one command removes it all again.")
set(CPACK_PACKAGE_CHECKSUM SHA256)
set(CPACK_STRIP_FILES ON)
set(CPACK_SET_DESTDIR ON) # the configuration is outside the prefix
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers, nftables | iptables")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "logrotate, bash-completion")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(debian ${CMAKE_CURRENT_SOURCE_DIR}/debian)
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/debian/conffiles "${BTBLOCK_SYSCONFDIR}/btblock/btblock.toml\n${BTBLOCK_SYSCONFDIR}/logrotate.d/btblock\n")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${debian}/postinst ${debian}/prerm ${debian}/postrm
    ${CMAKE_CURRENT_BINARY_DIR}/debian/conffiles)

set(CPACK_ARCHIVE_FILE_NAME "btblock-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}")
set(CPACK_PACKAGE_FILE_NAME ${CPACK_ARCHIVE_FILE_NAME})
set(CPACK_GENERATOR "DEB;TGZ")

# Debian wants these two in every package; they are of use elsewhere too.
install(FILES debian/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(GZIP)
  add_custom_command(
    OUTPUT changelog.gz
    COMMAND sh -c "'${GZIP}' -9nc '${debian}/changelog' > changelog.gz"
    DEPENDS ${debian}/changelog VERBATIM)
  add_custom_target(btblock_changelog ALL DEPENDS changelog.gz)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/changelog.gz DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
file(GLOB documents CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${documents} DESTINATION ${CMAKE_INSTALL_DOCDIR})
include(CPack)
