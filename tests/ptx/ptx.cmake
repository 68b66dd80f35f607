# SPDX-License-Identifier: Apache-2.0
# The interpreter of PTX, and our kernels on it.
set(ptx ${CMAKE_SOURCE_DIR}/tests/ptx)
file(GLOB ptx_sources CONFIGURE_DEPENDS ${ptx}/[a-s]*.c)
function(ptx_library name)
  add_library(${name} STATIC ${ptx_sources})
  target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
  target_include_directories(${name} PUBLIC ${ptx})
  target_link_libraries(${name} PRIVATE m)
endfunction()
ptx_library(ptx)
# For whole trainings: sanitizers watch the interpreter in its own tests, and the engine there.
ptx_library(ptx_unwatched)
if(THAW_SANITIZE)
  target_compile_options(ptx_unwatched PRIVATE -fno-sanitize=all)
endif()
if(NOT CUDAToolkit_FOUND OR NOT EXISTS "${CUDAToolkit_NVCC_EXECUTABLE}")
  foreach(name ptx_ops ptx_interpreter ptx_budgets)
    add_test(NAME ${name} COMMAND sh -c "echo 'skipped: there is no nvcc here'; exit 77")
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
  endforeach()
  return()
endif()

set(archs 90 80)
if(THAW_SANITIZE) # they watch the interpreter, for which one device is as good as two
  set(archs 90)
endif()
thaw_device_ptx(90 ptx_90)
thaw_device_images(device_ptx ${ptx_90})
if(80 IN_LIST archs)
  thaw_device_ptx(80 ptx_80)
  thaw_device_images(device_ptx_80 ${ptx_80})
endif()

# own_*.c themselves, without the rest of the engine: it wants cuDNN.
file(GLOB own_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/own*.c)
add_library(ptx_own STATIC ${own_sources} ${ptx}/test_launch.c)
target_compile_definitions(ptx_own PRIVATE _GNU_SOURCE)
target_include_directories(ptx_own PUBLIC ${CMAKE_SOURCE_DIR}/kernels/cuda)
target_link_libraries(ptx_own PUBLIC ptx thaw_internal)
foreach(arch ${archs})
  set(images device_ptx)
  if(arch EQUAL 80)
    set(images device_ptx_80)
  endif()
  add_executable(test_ptx_ops_${arch} ${ptx}/test_ops.c ${ptx}/test_kernels.c)
  target_include_directories(test_ptx_ops_${arch} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(test_ptx_ops_${arch} PRIVATE test_support ptx_own ${images})
  add_test(NAME ptx_ops_${arch} COMMAND test_ptx_ops_${arch})
  set_tests_properties(ptx_ops_${arch} PROPERTIES TIMEOUT 1200
    ENVIRONMENT "${test_environment}")
endforeach()

# The interpreter itself, on kernels with planted mistakes (no warning is an error there).
set(mistakes ${CMAKE_BINARY_DIR}/device/mistakes.ptx)
add_custom_command(OUTPUT ${mistakes} COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} -ptx
  -arch=compute_90 -O3 -lineinfo -std=c++17 ${ptx}/mistakes.cu -o ${mistakes}
  DEPENDS ${ptx}/mistakes.cu VERBATIM)
thaw_device_images(device_mistakes ${mistakes})
add_executable(test_ptx_interpreter ${ptx}/test_interpreter.c)
target_compile_definitions(test_ptx_interpreter PRIVATE _GNU_SOURCE)
target_link_libraries(test_ptx_interpreter PRIVATE ptx device_mistakes PkgConfig::CMOCKA m)
add_test(NAME ptx_interpreter COMMAND test_ptx_interpreter)

# What ptxas says of each kernel on each device, and its 128-bit accesses, against a table;
# `cmake --build BUILD --target ptx_budgets_table` writes it anew.
thaw_device_fatbin(fatbins)
add_custom_target(device_fatbin ALL DEPENDS ${fatbins})
set(budgets sh ${ptx}/budgets.sh ${CMAKE_BINARY_DIR}/device ${ptx}/budgets.txt)
add_test(NAME ptx_budgets COMMAND ${budgets})
set_tests_properties(ptx_budgets PROPERTIES SKIP_RETURN_CODE 77)
add_custom_target(ptx_budgets_table COMMAND ${budgets} --write DEPENDS ${fatbins} ${ptx_90})
