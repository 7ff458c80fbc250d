# cmake -DINPUT=bridge.py -DOUTPUT=bridge_text.cc -P embed.cmake: the file's text as a C++ string.
file(READ "${INPUT}" text)
if(text MATCHES "\\)kerfpy\"")
  message(FATAL_ERROR "${INPUT} contains the delimiter of its literal")
endif()
file(WRITE "${OUTPUT}"
     "#include \"search/optuna/bridge_text.h\"\n\nnamespace kerf::search {\n\n"
     "const char* const kBridgeText = R\"kerfpy(${text})kerfpy\";\n\n}  // namespace kerf::search\n")
