# Leaves out what nothing here calls and what takes half of the time to compile llama.cpp: the HTTP client, and of the
# library `common` everything but what turns JSON schemas into grammars and what that refers to.

if(NOT PROJECT_NAME STREQUAL "llama.cpp")
    return()
endif()

function(leave_out_unused_parts)
    get_target_property(sources llama-common SOURCES)
    list(FILTER sources INCLUDE REGEX
        "^(common|fit|json|json-schema|json-schema-to-grammar|log|ngram-[a-z]+|reasoning-budget|sampling|speculative|trie|unicode)\\.")
    set_property(TARGET llama-common PROPERTY SOURCES ${sources})
    get_target_property(libraries llama-common LINK_LIBRARIES)
    list(REMOVE_ITEM libraries cpp-httplib)
    set_property(TARGET llama-common PROPERTY LINK_LIBRARIES ${libraries})
    set_property(TARGET cpp-httplib PROPERTY EXCLUDE_FROM_ALL ON)
endfunction()

# What reads a file, is never called (quantising, chat templates), or runs once for a grammar needs no -O3. The graphs,
# which are built for every token, do: with -O1 for all of llama.cpp a token of a small model takes 4 % longer.
function(optimise_less_what_runs_once)
    set_source_files_properties(
        llama-adapter.cpp llama-arch.cpp llama-chat.cpp llama-model.cpp llama-model-loader.cpp llama-model-saver.cpp llama-quant.cpp
        TARGET_DIRECTORY llama PROPERTIES COMPILE_OPTIONS "$<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-O1>")
    target_compile_options(llama-common PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-O1>)
endfunction()

cmake_language(DEFER CALL leave_out_unused_parts)
cmake_language(DEFER CALL optimise_less_what_runs_once)
