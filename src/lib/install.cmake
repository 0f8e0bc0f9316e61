# libbtblock for other programs: one archive with what it needs of detect and net, the public header, pkg-config and
# CMake configuration. The component "dev": cmake --install build --component dev
include(CMakePackageConfigHelpers)

add_library(libbtblock STATIC
  $<TARGET_OBJECTS:btblock_lib> $<TARGET_OBJECTS:btblock_detect>
  "$<FILTER:$<TARGET_OBJECTS:btblock_net>,INCLUDE,/(Address|CaptureReader|Decapsulate|Packet)[.]cpp[.]o(bj)?$>")
set_target_properties(libbtblock PROPERTIES OUTPUT_NAME btblock EXPORT_NAME btblock LINKER_LANGUAGE CXX)
target_compile_features(libbtblock INTERFACE cxx_std_20)
target_include_directories(libbtblock INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(libbtblock INTERFACE $<INSTALL_INTERFACE:PkgConfig::BTBLOCK_PCAP> $<INSTALL_INTERFACE:PkgConfig::BTBLOCK_ZLIB>)

set(BTBLOCK_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/btblock)
install(TARGETS libbtblock EXPORT btblockTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(FILES ${PROJECT_SOURCE_DIR}/include/btblock/btblock.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/btblock COMPONENT dev)
install(EXPORT btblockTargets NAMESPACE btblock:: DESTINATION ${BTBLOCK_CMAKE_DIR} COMPONENT dev)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/btblockConfig.cmake.in ${PROJECT_BINARY_DIR}/generated/btblockConfig.cmake
                              INSTALL_DESTINATION ${BTBLOCK_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/btblockConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/btblockConfig.cmake ${PROJECT_BINARY_DIR}/generated/btblockConfigVersion.cmake
        DESTINATION ${BTBLOCK_CMAKE_DIR} COMPONENT dev)

# Relative to the file's own place, so that an installed tree can be moved.
file(RELATIVE_PATH BTBLOCK_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
file(RELATIVE_PATH BTBLOCK_PC_LIBDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH BTBLOCK_PC_INCLUDEDIR ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(${CMAKE_CURRENT_LIST_DIR}/btblock.pc.in ${PROJECT_BINARY_DIR}/generated/btblock.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/btblock.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
