# cmake -DFOLDER=… -DOUTPUT=… -P embed_migrations.cmake: the .sql files of a folder, in order, as
# migrations().
file(GLOB files "${FOLDER}/*.sql")
list(SORT files)
set(out "#include \"storage/sqlite/migrations.h\"\n\nnamespace kerf::storage {\n\n")
string(APPEND out "const std::vector<std::string>& migrations() {\n")
string(APPEND out "  static const std::vector<std::string> texts = {\n")
foreach(path IN LISTS files)
  file(READ "${path}" text)
  string(APPEND out "R\"kerf_sql(${text})kerf_sql\",\n")
endforeach()
string(APPEND out "  };\n  return texts;\n}\n\n}  // namespace kerf::storage\n")
file(WRITE "${OUTPUT}" "${out}")
