# SPDX-License-Identifier: Apache-2.0
# The check of plans: programs, the stand-in for the driver, a test a table, and the target
# plancheck_tables, which writes all tables anew.
set(plancheck ${CMAKE_SOURCE_DIR}/tests/plancheck)
add_library(stand_in_cuda SHARED ${plancheck}/driver.c ${plancheck}/driver_refuses.c)
set_target_properties(stand_in_cuda PROPERTIES PREFIX "" OUTPUT_NAME libcuda SUFFIX .so.1
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/stand-in C_VISIBILITY_PRESET default)
target_include_directories(stand_in_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})

add_library(plancheck_calls STATIC ${plancheck}/calls.c ${plancheck}/device.c
  ${plancheck}/cost.c)
target_include_directories(plancheck_calls PUBLIC ${plancheck})
target_link_libraries(plancheck_calls PUBLIC thaw_cuda ${CUDNN_LIBRARY})
add_executable(plancheck ${plancheck}/plancheck.c)
target_link_libraries(plancheck PRIVATE plancheck_calls ${CMAKE_DL_LIBS})
add_executable(roofline ${plancheck}/roofline.c)
target_link_libraries(roofline PRIVATE plancheck_calls)
add_executable(test_roofline ${plancheck}/test_roofline.c)
target_link_libraries(test_roofline PRIVATE plancheck_calls PkgConfig::CMOCKA)
add_executable(test_graphs ${plancheck}/test_graphs.c)
target_compile_definitions(test_graphs PRIVATE THAW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_link_libraries(test_graphs PRIVATE plancheck_calls PkgConfig::CMOCKA)
add_executable(test_plan_cache ${plancheck}/test_plan_cache.c)
target_include_directories(test_plan_cache PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_compile_definitions(test_plan_cache PRIVATE THAW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
target_link_libraries(test_plan_cache PRIVATE plancheck_calls test_support)
add_executable(test_meaning ${plancheck}/test_meaning.c ${plancheck}/graph_run.c)
target_include_directories(test_meaning PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(test_meaning PRIVATE test_support thaw_cuda)

set(plancheck_env "${test_environment};LD_LIBRARY_PATH=$<TARGET_FILE_DIR:stand_in_cuda>")
if(THAW_SANITIZE MATCHES "address") # what cuDNN keeps until the process ends
  list(APPEND plancheck_env "ASAN_OPTIONS=detect_leaks=0")
endif()
add_test(NAME plan_cuda_graphs COMMAND test_graphs)
add_test(NAME plan_cuda_roofline_by_hand COMMAND test_roofline)
# More traffic or launches than the table has: a difference, which is shown.
add_test(NAME plan_cuda_roofline
  COMMAND sh -c "$<TARGET_FILE:roofline> | diff ${plancheck}/support/roofline.txt -")
add_test(NAME plan_cuda_meaning COMMAND test_meaning)
set(plancheck_tests plan_cuda_graphs plan_cuda_meaning)
add_custom_target(plancheck_tables DEPENDS plancheck stand_in_cuda)
if(NOT THAW_SANITIZE) # the library's work, not ours
  foreach(numerics fp32 bf16 tf32 fp16)
    foreach(device h100 a100 b200)
      set(when "")
      if(NOT device STREQUAL "h100" OR NOT numerics MATCHES "^(fp32|bf16)$")
        set(when --full)
      endif()
      add_test(NAME plan_cuda_${device}_${numerics}
        COMMAND plancheck ${plancheck} ${device} ${numerics} ${when})
      list(APPEND plancheck_tests plan_cuda_${device}_${numerics})
      add_custom_command(TARGET plancheck_tables POST_BUILD COMMAND ${CMAKE_COMMAND} -E env
        LD_LIBRARY_PATH=$<TARGET_FILE_DIR:stand_in_cuda>
        $<TARGET_FILE:plancheck> ${plancheck} ${device} ${numerics} --write)
    endforeach()
  endforeach()
  add_test(NAME plan_cuda_all_shapes COMMAND plancheck ${plancheck} h100 bf16 --all)
  add_test(NAME plan_cuda_cache COMMAND test_plan_cache)
  list(APPEND plancheck_tests plan_cuda_all_shapes plan_cuda_cache)
endif()
set_tests_properties(${plancheck_tests} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 3000
  ENVIRONMENT "${plancheck_env}")
