# SPDX-License-Identifier: Apache-2.0
# The CUDA engine on the emulated device: the plugin that users get but for what it links, and
# its kernels as PTX.
thaw_cuda_plugin(thaw_cuda_emulated emucuda_shared device_ptx)
set_target_properties(thaw_cuda_emulated PROPERTIES
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/emulated)
add_library(small_nets STATIC ${CMAKE_SOURCE_DIR}/tests/cuda/nets.c)
target_include_directories(small_nets PUBLIC ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/tests/cuda)
target_link_libraries(small_nets PUBLIC test_support)
foreach(name sweep train fail ahead steps rcnn)
  add_executable(test_cuda_${name} ${CMAKE_SOURCE_DIR}/tests/cuda/test_${name}.c)
  target_link_libraries(test_cuda_${name} PRIVATE emucuda_shared small_nets)
  add_dependencies(test_cuda_${name} thaw_cuda_emulated)
  add_test(NAME emu_${name} COMMAND test_cuda_${name})
  set_tests_properties(emu_${name} PROPERTIES TIMEOUT 3000
    ENVIRONMENT "${test_environment};THAW_CUDA_ENGINE=$<TARGET_FILE:thaw_cuda_emulated>")
endforeach()
add_test(NAME emu_thaw
  COMMAND sh ${CMAKE_SOURCE_DIR}/tests/cuda/test_program.sh ${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR})
set_tests_properties(emu_thaw PROPERTIES TIMEOUT 3000
  ENVIRONMENT "${test_environment};THAW_CUDA_ENGINE=$<TARGET_FILE:thaw_cuda_emulated>")
