# SPDX-License-Identifier: Apache-2.0
# The engine as a plugin: libthaw_cuda.so on NVIDIA's libraries, for users. The same objects on
# the emulated device are emulated/libthaw_cuda.so, for tests (tests/cuda).
#
# Of our own libraries a plugin takes what it calls, a copy; nothing of it is visible but its entry.
function(thaw_cuda_plugin name)
  add_library(${name} MODULE $<TARGET_OBJECTS:thaw_cuda_objects>)
  set_target_properties(${name} PROPERTIES PREFIX "" OUTPUT_NAME libthaw_cuda)
  target_link_libraries(${name} PRIVATE ${ARGN} thaw_internal)
  target_link_options(${name} PRIVATE -Wl,--exclude-libs,ALL -Wl,--as-needed)
  if(NOT THAW_SANITIZE) # whose calls the program has
    target_link_options(${name} PRIVATE -Wl,--no-undefined)
  endif()
endfunction()

thaw_device_fatbin(fatbins)
thaw_device_images(device_fatbins ${fatbins})
thaw_cuda_plugin(thaw_cuda_plugin device_fatbins CUDA::cudart CUDA::cublasLt ${CUDNN_LIBRARY})
install(TARGETS thaw_cuda_plugin LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
