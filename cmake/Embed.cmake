# imageddpo_embed(OUTPUT name.cc INTO sources FUNCTION Name HEADER path.h FOLDER folder FILES a b ...)
#   Generates name.cc, which holds the files' bytes, so that a program needs none of them beside it, and appends it to the
#   list `sources`. HEADER declares EmbeddedFile and `absl::Span<const EmbeddedFile> Name()`.

function(imageddpo_embed)
  cmake_parse_arguments(arg "" "OUTPUT;INTO;FUNCTION;HEADER;FOLDER" "FILES" ${ARGN})
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${arg_OUTPUT})
  list(TRANSFORM arg_FILES PREPEND ${arg_FOLDER}/ OUTPUT_VARIABLE inputs)
  string(REPLACE ";" "," names "${arg_FILES}")
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DOUTPUT=${output} -DFUNCTION=${arg_FUNCTION} -DHEADER=${arg_HEADER} -DFOLDER=${arg_FOLDER}
      -DFILES=${names} -P ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    DEPENDS ${inputs} ${PROJECT_SOURCE_DIR}/cmake/EmbedFiles.cmake
    COMMENT "embedding ${arg_FOLDER}"
    VERBATIM)
  set(${arg_INTO} ${${arg_INTO}} ${output} PARENT_SCOPE)
endfunction()
