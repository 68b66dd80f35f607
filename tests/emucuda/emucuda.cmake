# SPDX-License-Identifier: Apache-2.0
# The emulated device: the runtime, cuDNN and cuBLASLt in software, on the real headers and no
# library of NVIDIA's. What links it has to name it before anything that links the real ones.
set(emucuda ${CMAKE_SOURCE_DIR}/tests/emucuda)
file(GLOB emu_sources CONFIGURE_DEPENDS ${emucuda}/*.c)
list(FILTER emu_sources EXCLUDE REGEX "/test_[a-z_]+\\.c$")
# Whole trainings run through these.
set_source_files_properties(${emucuda}/dnn_product.c ${emucuda}/dnn_pointwise.c
  ${emucuda}/dnn_pool.c PROPERTIES COMPILE_OPTIONS "-O3")
function(emu_library name kind interpreter)
  add_library(${name} ${kind} ${emu_sources})
  target_compile_definitions(${name} PRIVATE _GNU_SOURCE CUDNN_WARN_DEPRECATED)
  target_include_directories(${name} PUBLIC ${emucuda})
  target_include_directories(${name} SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS} ${CUDNN_INCLUDE_DIR})
  target_link_libraries(${name} PUBLIC ${interpreter} Threads::Threads m)
endfunction()
emu_library(emucuda STATIC ptx)
# For programs and plugins: one device in the process, whoever asks.
emu_library(emucuda_shared SHARED ptx_unwatched)
if(THAW_SANITIZE) # as the interpreter: the double is watched in its own tests
  target_compile_options(emucuda_shared PRIVATE -fno-sanitize=all)
endif()
set_target_properties(emucuda_shared PROPERTIES OUTPUT_NAME emucuda C_VISIBILITY_PRESET default)
target_link_options(emucuda_shared PRIVATE -Wl,-z,nodelete)

add_executable(test_device ${emucuda}/test_device.c)
target_link_libraries(test_device PRIVATE emucuda PkgConfig::CMOCKA)
add_test(NAME emu_device COMMAND test_device)
add_executable(test_cublas ${emucuda}/test_cublas.c)
target_link_libraries(test_cublas PRIVATE emucuda PkgConfig::CMOCKA)
add_test(NAME emu_cublas COMMAND test_cublas)
add_executable(test_emu_kernels ${emucuda}/test_kernels.c)
target_link_libraries(test_emu_kernels PRIVATE emucuda PkgConfig::CMOCKA)
add_test(NAME emu_kernels COMMAND test_emu_kernels)
add_executable(test_cudnn ${emucuda}/test_cudnn.c)
target_link_libraries(test_cudnn PRIVATE emucuda thaw_cuda emucuda PkgConfig::CMOCKA)
add_test(NAME emu_cudnn COMMAND test_cudnn)
add_executable(test_cudnn_refuses ${emucuda}/test_cudnn_refuses.c)
target_link_libraries(test_cudnn_refuses PRIVATE emucuda PkgConfig::CMOCKA)
add_test(NAME emu_cudnn_refuses COMMAND test_cudnn_refuses)
add_executable(test_cudnn_fuzz ${emucuda}/test_cudnn_fuzz.c)
target_compile_definitions(test_cudnn_fuzz PRIVATE _GNU_SOURCE CUDNN_LIBRARY="${CUDNN_LIBRARY}")
target_link_libraries(test_cudnn_fuzz PRIVATE emucuda PkgConfig::CMOCKA ${CMAKE_DL_LIBS})
if(NOT THAW_SANITIZE) # the library beside it is not built so
  add_test(NAME emu_cudnn_fuzz COMMAND test_cudnn_fuzz)
  set_tests_properties(emu_cudnn_fuzz PROPERTIES TIMEOUT 600)
endif()
add_executable(test_capture ${emucuda}/test_capture.c)
target_link_libraries(test_capture PRIVATE emucuda PkgConfig::CMOCKA)
add_test(NAME emu_capture COMMAND test_capture)
add_executable(test_emu_program ${emucuda}/test_program.c)
target_link_libraries(test_emu_program PRIVATE emucuda_shared PkgConfig::CMOCKA)
add_test(NAME emu_program COMMAND test_emu_program)
# Each graph of the engine, and what it has to compute, as tests/plancheck asks an interpreter.
add_executable(test_cudnn_meaning ${CMAKE_SOURCE_DIR}/tests/plancheck/test_meaning.c
  ${emucuda}/test_run_graph.c)
target_include_directories(test_cudnn_meaning PRIVATE ${CMAKE_SOURCE_DIR}/tests
  ${CMAKE_SOURCE_DIR}/tests/plancheck)
target_link_libraries(test_cudnn_meaning PRIVATE emucuda thaw_cuda emucuda test_support)
add_test(NAME emu_cudnn_meaning COMMAND test_cudnn_meaning)
# Plans that are kept, of the double; the environment is its device.
add_executable(test_emu_plan_cache ${CMAKE_SOURCE_DIR}/tests/plancheck/test_plan_cache.c)
target_include_directories(test_emu_plan_cache PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_compile_definitions(test_emu_plan_cache PRIVATE THAW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_link_libraries(test_emu_plan_cache PRIVATE emucuda thaw_cuda emucuda test_support)
add_test(NAME emu_plan_cache COMMAND test_emu_plan_cache)
set_tests_properties(emu_plan_cache PROPERTIES TIMEOUT 600
  ENVIRONMENT "${test_environment};EMU_ORDER=late")
set_tests_properties(emu_device emu_capture emu_program emu_cudnn emu_cudnn_refuses emu_kernels emu_cublas emu_cudnn_meaning PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
  ENVIRONMENT "${test_environment}")
