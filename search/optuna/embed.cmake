# cmake "-DINPUTS=a.py|b.py" -DOUTPUT=bridge_text.cc -P embed.cmake: the files' text, one after the
# other, as a C++ string. Modules never come from the working folder: that stands before everything.
string(REPLACE "|" ";" INPUTS "${INPUTS}")
set(body "    R\"kerfpy(import sys\n\nsys.path = [entry for entry in sys.path if entry]\n)kerfpy\"\n")
foreach(input IN LISTS INPUTS)
  file(READ "${input}" text)
  if(text MATCHES "\\)kerfpy\"")
    message(FATAL_ERROR "${input} contains the delimiter of its literal")
  endif()
  string(APPEND body "    R\"kerfpy(${text})kerfpy\"\n")
endforeach()
file(WRITE "${OUTPUT}"
     "#include \"search/optuna/bridge_text.h\"\n\nnamespace kerf::optuna {\n\n"
     "const char* const kBridgeText =\n${body}    ;\n\n}  // namespace kerf::optuna\n")
