# ONNX's messages (onnx.proto compiled) as Debian's libonnx-dev has them: onnx::proto.
find_path(ONNX_INCLUDE_DIR onnx/onnx_pb.h)
find_library(ONNX_PROTO_LIBRARY onnx_proto)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ONNXProto REQUIRED_VARS ONNX_INCLUDE_DIR ONNX_PROTO_LIBRARY)
if(ONNXProto_FOUND AND NOT TARGET onnx::proto)
  add_library(onnx::proto UNKNOWN IMPORTED)
  set_target_properties(onnx::proto PROPERTIES
    IMPORTED_LOCATION "${ONNX_PROTO_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${ONNX_INCLUDE_DIR}"
    INTERFACE_COMPILE_DEFINITIONS "ONNX_ML=1;ONNX_NAMESPACE=onnx"
    INTERFACE_LINK_LIBRARIES "protobuf::libprotobuf")
endif()
