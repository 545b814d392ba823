# proto/imageddpo/v1/*.proto, and what the API's errors carry in proto/google/rpc: imageddpo_proto (messages, protobuf
# only) and imageddpo_grpc (service stubs, on top). Includes: "imageddpo/v1/job.pb.h", "imageddpo/v1/service.grpc.pb.h".

find_package(Protobuf REQUIRED)
find_package(gRPC QUIET CONFIG)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

set(proto_root ${PROJECT_SOURCE_DIR}/proto)
set(proto_out ${PROJECT_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${proto_out})
file(GLOB proto_files CONFIGURE_DEPENDS ${proto_root}/imageddpo/v1/*.proto ${proto_root}/google/rpc/*.proto)

set(message_sources "")
set(service_sources "")
foreach(file IN LISTS proto_files)
  file(RELATIVE_PATH relative ${proto_root} ${file})
  string(REGEX REPLACE "\\.proto$" "" stem ${relative})
  add_custom_command(
    OUTPUT ${proto_out}/${stem}.pb.cc ${proto_out}/${stem}.pb.h
    COMMAND protobuf::protoc --cpp_out=${proto_out} -I ${proto_root} ${file}
    DEPENDS ${proto_files}
    COMMENT "protoc ${relative}")
  list(APPEND message_sources ${proto_out}/${stem}.pb.cc)
  file(STRINGS ${file} services REGEX "^service ")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  if(services)
    add_custom_command(
      OUTPUT ${proto_out}/${stem}.grpc.pb.cc ${proto_out}/${stem}.grpc.pb.h
      COMMAND protobuf::protoc --grpc_out=${proto_out} --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN}
        -I ${proto_root} ${file}
      DEPENDS ${proto_files}
      COMMENT "grpc_cpp_plugin ${relative}")
    list(APPEND service_sources ${proto_out}/${stem}.grpc.pb.cc)
  endif()
endforeach()

add_library(imageddpo_proto STATIC ${message_sources})
target_include_directories(imageddpo_proto SYSTEM PUBLIC ${proto_out})
target_link_libraries(imageddpo_proto PUBLIC protobuf::libprotobuf)
target_compile_options(imageddpo_proto PRIVATE -w)
set_target_properties(imageddpo_proto PROPERTIES UNITY_BUILD OFF) # Generated files share names.

if(service_sources)
  add_library(imageddpo_grpc STATIC ${service_sources})
  target_link_libraries(imageddpo_grpc PUBLIC imageddpo_proto gRPC::grpc++ gRPC::grpc++_reflection)
  target_compile_options(imageddpo_grpc PRIVATE -w)
  set_target_properties(imageddpo_grpc PROPERTIES UNITY_BUILD OFF)
endif()
